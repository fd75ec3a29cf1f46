"""Encode one shard: its item columns, its codes, and which of its rows are nearest to the questions.

Shards know nothing of each other, so any number of processes may encode them at once, in any order. Vectors are not
kept: a hundred million of them would be 205 GB. A recipe without lists (a scan, a graph) cannot be made in parts: its
shards hold the vectors that they gathered, and the merge builds from those.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import ipc

from index_builder.facts import StepFacts, read_facts, write_facts
from index_builder.gather import gather, within
from index_builder.parts import coarse, refinement
from index_builder.pin import Pin, require_format
from index_builder.train import EMPTY_NAME, TRAINED, read_questions
from index_builder.tune import Questions, Truth, find_truth
from lookalike.contracts.encoder import Vectors
from lookalike.contracts.errors import MissingPrerequisite
from lookalike.contracts.progress import Progress
from lookalike.storage.atomic import new_directory
from lookalike.storage.delta import DeltaTables

SHARDS = "shards"
ROWS_NAME = "items.arrow"
VECTORS_NAME = "vectors.f32"
CODES_NAME = "codes.faiss"
REFINE_CODES = "refine.codes"
TRUTH_NAME = "truth.npz"
ADD_ROWS = 8_192


def shard_folder(work: Path, number: int) -> Path:
    """Where a finished shard lies."""
    return work / SHARDS / f"{number:05d}"


def encode(work: Path, pin: Pin, number: int, tables: DeltaTables, progress: Progress) -> StepFacts:
    """Write the folder of a shard, whole or not at all; a finished one stays as it is.

    Raises MissingPrerequisite before training, and what `gather` raises.
    """
    require_format(pin)
    target = shard_folder(work, number)
    if target.exists():
        return read_facts(target)
    if not (work / TRAINED).is_dir():
        raise MissingPrerequisite(f"build {pin.build_id} is not trained yet: `lookalike index train` comes first")
    started, shard = time.monotonic(), pin.shards[number]
    with new_directory(target) as folder:
        scratch = folder / VECTORS_NAME
        rows = gather(tables, pin.table_versions, pin.space, within(shard.start, shard.stop), scratch, progress)
        with pa.OSFile(str(folder / ROWS_NAME), "wb") as sink, ipc.new_file(sink, rows.items.schema) as writer:
            writer.write_table(rows.items)
        if pin.recipe.nlist is not None:
            _write_codes(folder, work / TRAINED, rows.vectors, number, progress)
        items = len(rows.vectors)
        coverage = rows.coverage
        del rows  # before the file goes, or is cut to the rows that were kept
        if pin.recipe.nlist is not None:
            scratch.unlink()
        else:
            with scratch.open("r+b") as file:
                file.truncate(items * pin.space.dim * 4)
        facts = StepFacts.since(started, coverage)
        write_facts(folder, facts)
    return facts


def _write_codes(folder: Path, trained: Path, vectors: Vectors, number: int, progress: Progress) -> None:
    """The codes that are searched first, the finer ones as plain bytes, and the truth about the questions."""
    index = faiss.read_index(str(trained / EMPTY_NAME))
    first, refine = coarse(index), refinement(index)
    with progress.step(f"encode shard {number}", len(vectors)) as step, (folder / REFINE_CODES).open("wb") as finer:
        for block in blocks(vectors):
            first.add(block)
            if refine is not None:
                finer.write(refine.sa_encode(block).tobytes())
            step.advance(len(block))
    faiss.write_index(first, str(folder / CODES_NAME))
    truth = find_truth(vectors, read_questions(trained))
    np.savez(folder / TRUTH_NAME, scores=truth.scores, rows=truth.rows)


def read_truth(folder: Path, questions: Questions) -> Truth:
    """Of a finished shard with lists."""
    with np.load(folder / TRUTH_NAME) as kept:
        return Truth(questions, kept["scores"], kept["rows"])


@dataclass(frozen=True)
class ShardRows:
    """Vectors of all shards, one after the other, as one array that is read from disk: slices and chosen rows."""

    parts: tuple[Vectors, ...]
    starts: NDArray[np.int64]

    @classmethod
    def open(cls, folders: list[Path], dim: int) -> "ShardRows":
        """Map the vectors of finished shards, in this order."""
        paths = [folder / VECTORS_NAME for folder in folders]
        parts = tuple(
            np.memmap(path, np.float32, "r").reshape(-1, dim) if path.stat().st_size else np.empty((0, dim), np.float32)
            for path in paths
        )
        return cls(parts, np.cumsum([0, *(len(part) for part in parts)]))

    @property
    def shape(self) -> tuple[int, int]:
        return int(self.starts[-1]), int(self.parts[0].shape[1])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Vectors:
        if isinstance(rows, slice):
            first, last, _ = rows.indices(len(self))
            cuts = [
                part[max(first - start, 0) : max(last - start, 0)]
                for part, start in zip(self.parts, self.starts, strict=False)
            ]
            return np.concatenate(cuts)
        chosen = np.empty((len(rows), self.shape[1]), np.float32)
        owner = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(owner):
            mine = owner == number
            chosen[mine] = self.parts[number][rows[mine] - self.starts[number]]
        return chosen


def blocks(vectors: "Vectors | ShardRows") -> Iterator[Vectors]:
    """The rows in blocks of ADD_ROWS: which rows enter a graph together is part of its bytes."""
    for start in range(0, len(vectors), ADD_ROWS):
        yield np.ascontiguousarray(vectors[start : start + ADD_ROWS], dtype=np.float32)
