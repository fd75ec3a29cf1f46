"""Merge: finished shards → the files and the manifest of a sealed artifact.

Joined in the order of their ids, shards give byte for byte what one shard would have given: rows are numbered through,
columns are cut into batches anew, and slots that faiss only fills up with are cleared.
"""

import hashlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
from pyarrow import ipc

from index_builder.codes_file import join_codes
from index_builder.facts import StepFacts, build_facts, joined_coverage, read_facts
from index_builder.gather import explain_nothing
from index_builder.parts import coarse, one_thread, refinement
from index_builder.pin import Pin, require_format
from index_builder.reader import INDEX_NAME, ITEMS_NAME, REFINE_NAME, open_index
from index_builder.shard import CODES_NAME, REFINE_CODES, ROWS_NAME, ShardRows, blocks, read_truth, shard_folder
from index_builder.train import EMPTY_NAME, TRAINED, empty_index, read_quantiser, read_questions
from index_builder.tune import EncodeTexts, Truth, draw_questions, find_truth, joined, tune
from lookalike.contracts.errors import MissingPrerequisite
from lookalike.contracts.manifest import MANIFEST_NAME, FileRecord, Manifest
from lookalike.contracts.progress import Progress
from lookalike.storage.delta import DeltaTables

FAISS: Any = faiss
"""Its type stubs do not know all of its classes."""
ITEMS_PER_BATCH = 65_536
NAMED_SHARDS = 10
FILES = (INDEX_NAME, REFINE_NAME, ITEMS_NAME)


def missing_shards(work: Path, pin: Pin) -> list[int]:
    """Shards that are still to be encoded."""
    return [shard.number for shard in pin.shards if not shard_folder(work, shard.number).is_dir()]


def merge(
    work: Path,
    folder: Path,
    pin: Pin,
    tables: DeltaTables,
    progress: Progress,
    encode_texts: EncodeTexts | None = None,
) -> Manifest:
    """Write the artifact of finished shards into `folder`, which the caller makes appear whole or not at all.

    `encode_texts`: the encoder's, so that search is tuned for words too (see `train`, where the recipe has lists).

    Raises MissingPrerequisite (shards that are not encoded), or as `explain_nothing` when they hold nothing.
    """
    require_format(pin)
    started = time.monotonic()
    missing = missing_shards(work, pin)
    if missing:
        named = ", ".join(map(str, missing[:NAMED_SHARDS])) + (", …" if len(missing) > NAMED_SHARDS else "")
        raise MissingPrerequisite(
            f"build {pin.build_id}: {len(missing)} of {len(pin.shards)} shards are not encoded: {named}; "
            f"`lookalike index encode SHARD --build {pin.build_id}` does one"
        )
    folders = [shard_folder(work, shard.number) for shard in pin.shards]
    facts = [read_facts(each) for each in folders]
    items = sum(each.indexed for each in facts)
    coverage = joined_coverage(facts)
    if items == 0:
        explain_nothing(tables, pin.table_versions, pin.space, sum(each.silver_items for each in facts))
    if pin.recipe.nlist is not None:
        truth, imbalance = _write_lists(folder, work, pin, folders, progress)
    else:
        truth, imbalance = _write_whole(folder, pin, folders, progress, encode_texts), None
    _write_items(folder / ITEMS_NAME, folders)
    quantiser = read_quantiser(work).model_dump(mode="json") | {"imbalance_of_all": imbalance}
    manifest = Manifest(
        created_at=pin.created_at,
        space=pin.space,
        recipe=pin.recipe,
        chosen_because=pin.chosen_because,
        items=items,
        table_versions=pin.table_versions,
        log_offsets=pin.log_offsets,
        files={name: record(folder / name) for name in FILES if (folder / name).exists()},
        build={"id": pin.build_id, "shards": len(folders), "coverage": coverage, "quantiser": quantiser},
    )
    _write_manifest(folder, manifest)  # tuned is what a server opens
    with progress.step("tune search") as step:
        search, points = tune(open_index(folder, verify=False), truth, pin.recall)
        step.advance(len(points))
    steps = [read_facts(work / TRAINED), *facts, StepFacts.since(started)]
    found = {"search": search, "operating_points": points, "build": manifest.build | build_facts(steps)}
    manifest = manifest.model_copy(update=found)
    _write_manifest(folder, manifest)
    return manifest


def record(path: Path) -> FileRecord:
    """Size and sha256 of a file, read in blocks."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileRecord(sha256=digest, bytes=path.stat().st_size)


def _write_whole(
    folder: Path, pin: Pin, folders: list[Path], progress: Progress, encode_texts: EncodeTexts | None
) -> Truth:
    """An index that cannot be made in parts, from the vectors of all shards."""
    vectors = ShardRows.open(folders, pin.space.dim)
    with progress.step(f"build index ({pin.recipe.name})", len(vectors)) as step:
        index = empty_index(pin.recipe, pin.space.dim)
        with one_thread():
            for block in blocks(vectors):
                index.add(block)
                step.advance(len(block))
        faiss.write_index(index, str(folder / INDEX_NAME))
    titles = pa.chunked_array([chunk for table in _item_rows(folders) for chunk in table["title"].chunks])
    return find_truth(vectors, draw_questions(vectors, titles, encode_texts))


def _write_lists(
    folder: Path, work: Path, pin: Pin, folders: list[Path], progress: Progress
) -> tuple[Truth, float | None]:
    """Lists joined from those of all shards, with their imbalance; finer codes go into a file of their own."""
    whole, questions = faiss.read_index(str(work / TRAINED / EMPTY_NAME)), read_questions(work / TRAINED)
    index, starts, sizes = coarse(whole), [], []
    with progress.step(f"build index ({pin.recipe.name})", len(folders)) as step:
        for each in folders:
            part = faiss.read_index(str(each / CODES_NAME))
            starts.append(int(index.ntotal))
            sizes.append(int(part.ntotal))
            index.merge_from(part, index.ntotal)
            step.advance()
        lists = faiss.downcast_InvertedLists(index.invlists)
        _clear_unused_slots(lists)
        faiss.write_index(index, str(folder / INDEX_NAME))
        imbalance = round(float(lists.imbalance_factor()), 4)
    refine = refinement(whole)
    if refine is not None:
        parts = [(each / REFINE_CODES, size) for each, size in zip(folders, sizes, strict=True)]
        join_codes(work / REFINE_NAME, refine, parts)
        _link(work / REFINE_NAME, folder / REFINE_NAME)
    return joined([read_truth(each, questions) for each in folders], starts), imbalance


def _link(source: Path, target: Path) -> None:
    """The same bytes under another name: they stay in the build's folder until the artifact is whole."""
    try:
        target.hardlink_to(source)
    except OSError:  # another file system
        shutil.copyfile(source, target)


def _clear_unused_slots(lists: Any) -> None:
    """Zero the slots behind the last code of each list: joining leaves there what happened to lie in memory."""
    if not isinstance(lists, FAISS.BlockInvertedLists):
        return
    zero = np.zeros(lists.packer.code_size, np.uint8)
    for number in range(lists.nlist):
        used = lists.list_size(number)
        count = -(-used // lists.n_per_block)
        if used == count * lists.n_per_block:
            continue
        codes = faiss.rev_swig_ptr(lists.get_codes(number), count * lists.block_size).reshape(count, -1)
        for slot in range(used, count * lists.n_per_block):
            lists.packer.pack_1(zero, slot, codes)


def _write_items(path: Path, folders: list[Path]) -> None:
    """Uncompressed Arrow file, so that it can be mapped and a row be read without reading the others."""
    tables = _item_rows(folders)
    first = next(tables)
    with pa.OSFile(str(path), "wb") as sink, ipc.new_file(sink, first.schema) as writer:
        for batch in _even_batches(first, tables):
            writer.write_table(batch)


def _item_rows(folders: list[Path]) -> Iterator[pa.Table]:
    return (ipc.open_file(pa.memory_map(str(folder / ROWS_NAME), "r")).read_all() for folder in folders)


def _even_batches(first: pa.Table, rest: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of ITEMS_PER_BATCH, the last one shorter, wherever the shards were cut."""
    waiting = first
    for table in rest:
        while waiting.num_rows >= ITEMS_PER_BATCH:
            yield _copied(waiting.slice(0, ITEMS_PER_BATCH))
            waiting = waiting.slice(ITEMS_PER_BATCH)
        waiting = pa.concat_tables([waiting, table])
    for start in range(0, waiting.num_rows, ITEMS_PER_BATCH):
        yield _copied(waiting.slice(start, ITEMS_PER_BATCH))


def _copied(rows: pa.Table) -> pa.Table:
    """Row by row, because a slice brings along buffers of what it was cut from, and equal rows must be equal bytes."""
    return rows.combine_chunks().take(pa.array(np.arange(rows.num_rows)))


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2) + "\n")
