"""Merge: finished shards → the files and the manifest of a sealed artifact.

Joined in the order of their ids, shards give byte for byte what one shard would have given: rows are numbered through,
columns are cut into batches anew, and slots that faiss only fills up with are cleared.
"""

import hashlib
import shutil
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
from pyarrow import ipc

from index_builder.artifact import AXES_NAME, CENTRES_NAME, INDEX_NAME, ITEMS_NAME, REFINE_NAME
from index_builder.attribute_sets import SETS_NAME, write_sets
from index_builder.codes_file import join_codes
from index_builder.facts import StepFacts, build_facts, read_facts
from index_builder.graphs import devices_of, fill
from index_builder.list_codes import packed
from index_builder.lists_file import imbalance_of, join_lists
from index_builder.pin import Pin, require_format
from index_builder.reader import open_index
from index_builder.shard import (
    CODES_NAME,
    REFINE_CODES,
    ROWS_NAME,
    VECTORS_NAME,
    blocks,
    copied,
    read_sizes,
    read_truth,
    shard_folder,
)
from index_builder.source import Coverage, Source
from index_builder.train import EMPTY_NAME, EMPTY_REFINE, TRAINED, read_codes_facts, read_quantiser, read_questions
from index_builder.tune import EncodeTexts, Truth, draw_questions, find_truth, joined, tune
from index_builder.vector_file import ShardRows
from lookalike.contracts.errors import MissingPrerequisite
from lookalike.contracts.manifest import MANIFEST_NAME, FileRecord, Manifest
from lookalike.contracts.progress import Progress

ITEMS_PER_BATCH = 65_536
NAMED_SHARDS = 10
FILES = (INDEX_NAME, REFINE_NAME, CENTRES_NAME, AXES_NAME, ITEMS_NAME, SETS_NAME)


def missing_shards(work: Path, pin: Pin) -> list[int]:
    """Shards that are still to be encoded."""
    return [shard.number for shard in pin.shards if not shard_folder(work, shard.number).is_dir()]


def merge(
    work: Path,
    folder: Path,
    pin: Pin,
    source: Source,
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
    coverage = Coverage.joined(each.coverage for each in facts)
    if coverage.indexed == 0:
        source.explain_nothing()
    if pin.recipe.nlist is not None:
        truth, imbalance = _write_lists(folder, work, pin, folders, progress)
    else:
        truth, imbalance = _write_whole(folder, pin, folders, progress, encode_texts), None
    _write_items(folder / ITEMS_NAME, folders)
    with progress.step("write attribute sets"):
        write_sets(folder / ITEMS_NAME, folder / SETS_NAME)
    manifest = _manifest(folder, work, pin, coverage, imbalance)
    _write_manifest(folder, manifest)  # tuned is what a server opens
    with progress.step("tune search") as step:
        search, points = tune(open_index(folder, verify=False), truth, pin.recall)
        step.advance(len(points))
    graph_on = devices_of(pin.recipe, coverage.indexed, pin.device)
    steps = [read_facts(work / TRAINED), *facts, StepFacts.since(started, devices=graph_on)]
    found = {"search": search, "operating_points": points, "build": manifest.build | build_facts(steps)}
    manifest = manifest.model_copy(update=found)
    _write_manifest(folder, manifest)
    return manifest


def _manifest(folder: Path, work: Path, pin: Pin, coverage: Coverage, imbalance: float | None) -> Manifest:
    """Of the files in `folder`, before search is tuned."""
    counted = coverage.model_dump(mode="json")
    quantiser = read_quantiser(work).model_dump(mode="json") | {"imbalance_of_all": imbalance}
    chosen = read_codes_facts(work / TRAINED)
    codes = {} if chosen is None else {"codes": chosen.model_dump(mode="json")}
    return Manifest(
        created_at=pin.created_at,
        space=pin.space,
        recipe=pin.recipe,
        chosen_because=pin.chosen_because,
        items=coverage.indexed,
        table_versions=pin.table_versions,
        log_offsets=pin.log_offsets,
        files={name: record(folder / name) for name in FILES if (folder / name).exists()},
        build={
            "id": pin.build_id,
            "shards": len(pin.shards),
            "coverage": counted,
            "device_because": pin.device_because,
            "quantiser": quantiser,
            **codes,
        },
    )


def record(path: Path) -> FileRecord:
    """Size and sha256 of a file, read in blocks."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileRecord(sha256=digest, bytes=path.stat().st_size)


def _write_whole(
    folder: Path, pin: Pin, folders: list[Path], progress: Progress, encode_texts: EncodeTexts | None
) -> Truth:
    """An index that cannot be made in parts, from the vectors of all shards."""
    vectors = ShardRows([each / VECTORS_NAME for each in folders], pin.space.dim)
    with progress.step(f"build index ({pin.recipe.name})", len(vectors)) as step:
        index = fill(pin.recipe, pin.space.dim, len(vectors), blocks(vectors), pin.device, step)
        faiss.write_index(index, str(folder / INDEX_NAME))
    titles = pa.chunked_array([chunk for table in _item_rows(folders) for chunk in table["title"].chunks])
    return find_truth(vectors, draw_questions(vectors, titles, encode_texts))


def _write_lists(
    folder: Path, work: Path, pin: Pin, folders: list[Path], progress: Progress
) -> tuple[Truth, float | None]:
    """Lists joined from those of all shards, with their imbalance; finer codes go into a file of their own."""
    trained = work / TRAINED
    first, refine = (faiss.read_index(str(trained / name)) for name in (EMPTY_NAME, EMPTY_REFINE))
    questions = read_questions(trained)
    lists = [read_sizes(each) for each in folders]
    rows = [int(sizes.sum()) for sizes in lists]
    with progress.step(f"join lists ({pin.recipe.name})", sum(rows)) as step:
        parts = [(each / CODES_NAME, sizes) for each, sizes in zip(folders, lists, strict=True)]
        join_lists(work / INDEX_NAME, packed(first), parts, step)
    join_codes(work / REFINE_NAME, refine, [(each / REFINE_CODES, n) for each, n in zip(folders, rows, strict=True)])
    for name in (INDEX_NAME, REFINE_NAME):
        _link(work / name, folder / name)
    for name in (CENTRES_NAME, AXES_NAME):
        _link(trained / name, folder / name)
    starts = [0, *accumulate(rows)][:-1]
    imbalance = imbalance_of(np.sum(lists, axis=0))
    return joined([read_truth(each, questions) for each in folders], starts), round(imbalance, 4)


def _link(source: Path, target: Path) -> None:
    """The same bytes under another name: they stay in the build's folder until the artifact is whole."""
    try:
        target.hardlink_to(source)
    except OSError:  # another file system
        shutil.copyfile(source, target)


def _write_items(path: Path, folders: list[Path]) -> None:
    """Uncompressed Arrow file, so that it can be mapped and a row be read without reading the others."""
    tables = _item_rows(folders)
    first = next(tables)
    with pa.OSFile(str(path), "wb") as sink, ipc.new_file(sink, first.schema) as writer:
        for batch in _even_batches(first, tables):
            writer.write_table(batch)


def _item_rows(folders: list[Path]) -> Iterator[pa.Table]:
    """Of all shards in turn, a batch at a time."""
    for path in (folder / ROWS_NAME for folder in folders):
        if path.exists():
            with pa.OSFile(str(path)) as source, ipc.open_file(source) as batches:
                for number in range(batches.num_record_batches):
                    yield pa.Table.from_batches([batches.get_batch(number)])


def _even_batches(first: pa.Table, rest: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of ITEMS_PER_BATCH, the last one shorter, wherever the shards were cut."""
    waiting = first
    for table in rest:
        while waiting.num_rows >= ITEMS_PER_BATCH:
            yield copied(waiting.slice(0, ITEMS_PER_BATCH))
            waiting = waiting.slice(ITEMS_PER_BATCH)
        waiting = pa.concat_tables([waiting, table])
    for start in range(0, waiting.num_rows, ITEMS_PER_BATCH):
        yield copied(waiting.slice(start, ITEMS_PER_BATCH))


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2) + "\n")
