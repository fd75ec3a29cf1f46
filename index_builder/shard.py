"""Encode one shard: its item columns, its codes, and which of its rows are nearest to the questions.

Shards know nothing of each other, so any number of processes may encode them at once, in any order. Vectors are not
kept: a hundred million of them would be 205 GB; they come in blocks, and one pass over these does all. A recipe without
lists (a scan, a graph) cannot be made in parts: its shards keep the vectors, and the merge builds from those.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import ipc

from index_builder.artifact import AXES_NAME, CENTRES_NAME
from index_builder.assign import nearest_centre
from index_builder.axes import ArtifactAxes
from index_builder.device import Device
from index_builder.facts import ASSIGN, StepFacts, read_facts, write_facts
from index_builder.list_centres import ListCentres
from index_builder.list_codes import add_codes, packed
from index_builder.lists_file import Sizes, sizes_of
from index_builder.pin import Pin, require_format
from index_builder.source import Block, Coverage, ShardSource, even
from index_builder.train import EMPTY_NAME, EMPTY_REFINE, TRAINED, read_questions, require_trained
from index_builder.tune import Questions, Truth, learn, no_truth
from index_builder.vector_file import ShardRows
from lookalike.contracts.encoder import Vectors
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.progress import Progress, Step
from lookalike.storage.atomic import new_directory

SHARDS = "shards"
ROWS_NAME = "items.arrow"
VECTORS_NAME = "vectors.f32"
CODES_NAME = "codes.faiss"
REFINE_CODES = "refine.codes"
SIZES_NAME = "sizes.npy"
TRUTH_NAME = "truth.npz"
ADD_ROWS = 8_192
SMALL = ipc.IpcWriteOptions(compression="zstd")
"""Items of a shard are there once more in the artifact."""


def shard_folder(work: Path, number: int) -> Path:
    """Where a finished shard lies."""
    return work / SHARDS / f"{number:05d}"


def encode(work: Path, pin: Pin, number: int, source: ShardSource, progress: Progress, at_a_time: int = 1) -> StepFacts:
    """Write the folder of a shard, whole or not at all; a finished one stays as it is.

    `at_a_time`: how many processes encode, for the facts. Raises MissingPrerequisite before training, and what the
    source raises.
    """
    require_format(pin)
    target = shard_folder(work, number)
    if target.exists():
        return read_facts(target)
    require_trained(work, pin)
    started, trained = time.monotonic(), work / TRAINED
    with new_directory(target) as folder:
        kept: _Kept = _Vectors(folder) if pin.recipe.nlist is None else _Codes(folder, trained, pin.device)
        with progress.step(f"encode shard {number}") as step:
            coverage = _encode(folder, even(source.blocks(pin.shards[number], folder, progress), ADD_ROWS), kept, step)
        facts = StepFacts.since(started, coverage, at_a_time, kept.devices)
        write_facts(folder, facts)
    return facts


def _encode(folder: Path, blocks: Iterable[Block], kept: "_Kept", step: Step) -> Coverage:
    """One pass over the blocks. A shard without any row has no file of items."""
    coverage, last = Coverage(), ""
    with ExitStack() as files:
        items: ipc.RecordBatchFileWriter | None = None
        for block in blocks:
            coverage = Coverage.joined([coverage, block.coverage])
            if len(block.vectors) == 0:
                continue
            last = _in_order(last, block.items["item_id"])
            if items is None:
                sink = files.enter_context(pa.OSFile(str(folder / ROWS_NAME), "wb"))
                items = files.enter_context(ipc.new_file(sink, block.items.schema, options=SMALL))
            items.write_table(copied(block.items))
            kept.add(np.ascontiguousarray(block.vectors, dtype=np.float32))
            step.advance(len(block.vectors))
        kept.finish()
    return coverage


def copied(rows: pa.Table) -> pa.Table:
    """Row by row, because a slice brings along buffers of what it was cut from, and equal rows must be equal bytes."""
    return rows.combine_chunks().take(pa.array(np.arange(rows.num_rows)))


def _in_order(last: str, ids: pa.ChunkedArray) -> str:
    """The last id of a block. Raises LookalikeError for one that is there twice or out of order."""
    before = pa.chunked_array([pa.array([last], ids.type), *ids.slice(0, len(ids) - 1).chunks])
    wrong = ids.filter(pc.less_equal(ids, before))
    if len(wrong):
        raise LookalikeError(f"item {wrong[0]} is there twice, or not in the order of ids; the source is at fault")
    return str(ids[-1])


class _Kept(Protocol):
    """What is kept of a shard's vectors, and which device had a part in it."""

    devices: dict[str, Device]

    def add(self, vectors: Vectors) -> None: ...

    def finish(self) -> None: ...


class _Codes:
    """The codes that are searched first, the finer ones as plain bytes, and the truth about the questions."""

    def __init__(self, folder: Path, trained: Path, pinned: Device) -> None:
        self._folder = folder
        self._axes = ArtifactAxes.load(trained / AXES_NAME)
        self._centres, device = nearest_centre(ListCentres.read(trained / CENTRES_NAME), pinned)
        self.devices: dict[str, Device] = {ASSIGN: device}
        self._first: Any = faiss.read_index(str(trained / EMPTY_NAME))
        self._refine = faiss.read_index(str(trained / EMPTY_REFINE))
        self._truth = no_truth(read_questions(trained))
        self._finer = (folder / REFINE_CODES).open("wb")

    def add(self, vectors: Vectors) -> None:
        learn(self._truth, vectors, int(self._first.ntotal))
        add_codes(self._first, self._axes.codes.of_items(vectors), self._centres.nearest_of(vectors))
        self._finer.write(np.asarray(self._refine.sa_encode(self._axes.finer.of_items(vectors))).data)

    def finish(self) -> None:
        self._finer.close()
        faiss.write_index(packed(self._first), str(self._folder / CODES_NAME))
        np.save(self._folder / SIZES_NAME, sizes_of(self._first.invlists))
        np.savez(self._folder / TRUTH_NAME, scores=self._truth.scores, rows=self._truth.rows)


class _Vectors:
    """The vectors as they are, for an index that cannot be made in parts."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / VECTORS_NAME).open("wb")
        self.devices: dict[str, Device] = {}

    def add(self, vectors: Vectors) -> None:
        self._file.write(vectors.data)

    def finish(self) -> None:
        self._file.close()


def read_sizes(folder: Path) -> Sizes:
    """Of the lists of a finished shard, shape (nlist,)."""
    sizes: Sizes = np.load(folder / SIZES_NAME)
    return sizes


def read_truth(folder: Path, questions: Questions) -> Truth:
    """Of a finished shard with lists."""
    with np.load(folder / TRUTH_NAME) as kept:
        return Truth(questions, kept["scores"], kept["rows"])


def blocks(vectors: "Vectors | ShardRows") -> Iterator[Vectors]:
    """The rows in blocks of ADD_ROWS: which rows enter a graph together is part of its bytes."""
    for start in range(0, len(vectors), ADD_ROWS):
        yield np.ascontiguousarray(vectors[start : start + ADD_ROWS], dtype=np.float32)
