"""Merge: finished shards → the files and the manifest of a sealed artifact.

Joined in the order of their ids, shards give byte for byte what one shard would have given: rows are numbered through,
columns are cut into batches anew, and slots that faiss only fills up with are cleared.
"""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
from pyarrow import ipc

from index_builder.facts import StepFacts, build_facts, joined_coverage, read_facts
from index_builder.gather import explain_nothing
from index_builder.parts import inverted_lists, one_thread, refinement
from index_builder.pin import Pin
from index_builder.reader import INDEX_NAME, ITEMS_NAME, open_index
from index_builder.shard import CODES_NAME, ROWS_NAME, ShardRows, blocks, shard_folder
from index_builder.train import EMPTY_NAME, TRAINED, empty_index, read_quantiser
from index_builder.tune import measure_points
from lookalike.contracts.errors import MissingPrerequisite
from lookalike.contracts.manifest import MANIFEST_NAME, FileRecord, Manifest
from lookalike.contracts.progress import Progress
from lookalike.storage.delta import DeltaTables

FAISS: Any = faiss
"""Its type stubs do not know all of its classes."""
ITEMS_PER_BATCH = 65_536
NAMED_SHARDS = 10


def missing_shards(work: Path, pin: Pin) -> list[int]:
    """Shards that are still to be encoded."""
    return [shard.number for shard in pin.shards if not shard_folder(work, shard.number).is_dir()]


def merge(work: Path, folder: Path, pin: Pin, tables: DeltaTables, progress: Progress) -> Manifest:
    """Write the artifact of finished shards into `folder`, which the caller makes appear whole or not at all.

    Raises MissingPrerequisite (shards that are not encoded), or as `explain_nothing` when they hold nothing.
    """
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
    vectors = ShardRows.open(folders, pin.space.dim)
    coverage = joined_coverage(facts)
    if len(vectors) == 0:
        explain_nothing(tables, pin.table_versions, pin.space, sum(each.silver_items for each in facts))
    imbalance = _write_index(folder / INDEX_NAME, work, pin, folders, vectors, progress)
    _write_items(folder / ITEMS_NAME, folders)
    quantiser = read_quantiser(work).model_dump(mode="json") | {"imbalance_of_all": imbalance}
    manifest = Manifest(
        created_at=pin.created_at,
        space=pin.space,
        recipe=pin.recipe,
        chosen_because=pin.chosen_because,
        items=len(vectors),
        table_versions=pin.table_versions,
        log_offsets=pin.log_offsets,
        files={name: record(folder / name) for name in (INDEX_NAME, ITEMS_NAME)},
        build={"id": pin.build_id, "shards": len(folders), "coverage": coverage, "quantiser": quantiser},
    )
    _write_manifest(folder, manifest)  # the operating points are those of the files as a server opens them
    with progress.step("measure operating points") as step:
        points = measure_points(open_index(folder, verify=False), vectors)
        step.advance(len(points))
    steps = [read_facts(work / TRAINED), *facts, StepFacts.since(started)]
    manifest = manifest.model_copy(update={"operating_points": points, "build": manifest.build | build_facts(steps)})
    _write_manifest(folder, manifest)
    return manifest


def record(path: Path) -> FileRecord:
    """Size and sha256 of a file, read in blocks."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileRecord(sha256=digest, bytes=path.stat().st_size)


def _write_index(
    path: Path, work: Path, pin: Pin, folders: list[Path], vectors: ShardRows, progress: Progress
) -> float | None:
    """The imbalance of the filled lists, or None for a recipe without."""
    with progress.step(f"build index ({pin.recipe.name})", len(vectors)) as step:
        if pin.recipe.nlist is None:
            index = empty_index(pin.recipe, pin.space.dim)
            with one_thread():
                for block in blocks(vectors):
                    index.add(block)
                    step.advance(len(block))
            faiss.write_index(index, str(path))
            return None
        index = faiss.read_index(str(work / TRAINED / EMPTY_NAME))
        for folder in folders:
            part = faiss.read_index(str(folder / CODES_NAME))
            rows = part.ntotal
            _append(index, part)
            step.advance(rows)
        lists = faiss.downcast_InvertedLists(_lists_of(index).invlists)
        _clear_unused_slots(lists)
        faiss.write_index(index, str(path))
        return round(float(lists.imbalance_factor()), 4)


def _lists_of(index: Any) -> Any:
    inner = inverted_lists(index)
    assert inner is not None, "a recipe with a number of lists has lists"
    return inner


def _append(index: Any, part: Any) -> None:
    """Move the rows of `part` behind those of `index`; both have the same quantiser."""
    inner, more = _lists_of(index), _lists_of(part)
    inner.merge_from(more, inner.ntotal)
    refine = refinement(index)
    if refine is not None:
        refine.merge_from(refinement(part))
    index.ntotal = inner.ntotal


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
    tables = (ipc.open_file(pa.memory_map(str(folder / ROWS_NAME), "r")).read_all() for folder in folders)
    first = next(tables)
    with pa.OSFile(str(path), "wb") as sink, ipc.new_file(sink, first.schema) as writer:
        for batch in _even_batches(first, tables):
            writer.write_table(batch)


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
