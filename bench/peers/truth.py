"""What is right: the nearest vectors by comparing all, and the share of an answer's rows that are as near.

Plain numpy over blocks, so that what is measured and what measures share no code, and nothing an engine says about
distances is believed.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

K = 10
ROUNDING = 1e-5
"""Of equal pictures any is right, and there may be thousands: a row counts that is as near as the true K-th, up to
this."""
BLOCK_ROWS = 8_192
UNIT = 1e-2

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]
Blocks = Callable[[], Iterable[Vectors]]
"""Gives all vectors, blocks of shape (rows, dim) that follow each other; asked twice."""


@dataclass(frozen=True)
class Truth:
    """Rows that are as near to a query as its K-th nearest: those of query i are rows[ends[i]:ends[i + 1]]."""

    rows: Rows
    ends: Rows

    def __len__(self) -> int:
        return len(self.ends) - 1

    def near(self, query: int) -> Rows:
        """K or, where some are equal, more."""
        return self.rows[self.ends[query] : self.ends[query + 1]]

    def recall(self, found: Rows) -> float:
        """Mean share of the K nearest that `found`, answers to the first q queries, shape (q, K), has; -1 is none."""
        right = [min(K, len(np.intersect1d(answer, self.near(at)))) for at, answer in enumerate(found)]
        return sum(right) / (K * len(found))

    def part(self, first: int, last: int) -> "Truth":
        """Of these queries."""
        ends = self.ends[first : last + 1]
        return Truth(self.rows[ends[0] : ends[-1]], ends - ends[0])


def nearest(blocks: Blocks, queries: Vectors) -> Truth:
    """By inner product with all of them. One block is held at a time."""
    least = np.full((len(queries), K), -np.inf, np.float32)
    for _, scores in _compared(blocks, queries):
        least = np.partition(np.concatenate([least, scores], axis=1), -K, axis=1)[:, -K:]
    enough = least.min(axis=1) - ROUNDING
    asked, rows = [], []
    for first, scores in _compared(blocks, queries):
        query, row = np.nonzero(scores >= enough[:, None])
        asked.append(query)
        rows.append(first + row)
    which = np.concatenate(asked)
    order = np.argsort(which, kind="stable")
    ends = np.searchsorted(which[order], np.arange(len(queries) + 1))
    return Truth(np.concatenate(rows)[order], ends)


def _compared(blocks: Blocks, queries: Vectors) -> Iterator[tuple[int, Vectors]]:
    """Number of the first row, and scores of some rows, shape (q, rows)."""
    first = 0
    for block in blocks():
        for start in range(0, len(block), BLOCK_ROWS):
            yield first + start, queries @ np.asarray(block[start : start + BLOCK_ROWS], np.float32).T
        first += len(block)


def read_or_find(path: Path, blocks: Blocks, queries: Mapping[str, Vectors], inputs: str) -> dict[str, Truth]:
    """The truth of every kind of query, kept in `path` for these inputs. Raises SystemExit for other ones."""
    if not path.exists():
        found = nearest(blocks, np.concatenate(list(queries.values())))
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.writing.npz")
        np.savez(beside, inputs=json.dumps(inputs), rows=found.rows, ends=found.ends)
        beside.replace(path)
    with np.load(path) as kept:
        if json.loads(str(kept["inputs"])) != inputs:
            raise SystemExit(f"{path} is the truth of other vectors or queries; name another file by --truth")
        every = Truth(kept["rows"], kept["ends"])
    cuts = np.cumsum([0, *(len(these) for these in queries.values())]).tolist()
    return {kind: every.part(*ends) for kind, ends in zip(queries, pairwise(cuts), strict=True)}


def digest(paths: list[Path]) -> str:
    """Of the contents of files."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def load_unit(path: Path) -> Vectors:
    """An .npy file of unit vectors, shape (n, dim), mapped. Raises SystemExit for another shape, kind or norm."""
    vectors = np.load(path, mmap_mode="r")
    if vectors.ndim != 2 or vectors.dtype not in (np.float32, np.float16):
        raise SystemExit(
            f"{path} has shape {vectors.shape} of {vectors.dtype}; (n, dim) of float32 or float16 is needed"
        )
    norms = np.linalg.norm(np.asarray(vectors[:: max(1, len(vectors) // 1_000)], np.float32), axis=1)
    if np.abs(norms - 1).max() > UNIT:
        raise SystemExit(f"{path} has vectors of norm {norms.min():.3f} to {norms.max():.3f}; unit vectors are needed")
    return vectors
