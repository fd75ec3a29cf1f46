"""Exact nearest neighbours by brute force, in blocks: the truth that every approximate answer is measured against.

Plain numpy and not faiss, so that what is measured and what measures share no code.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lookalike.contracts.encoder import Vectors

BLOCK_ROWS = 16_384
BLOCK_QUERIES = 256


class Rows(Protocol):
    """Vectors that are read block by block: an array, or one that lies in several files."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice | NDArray[np.int64], /) -> Vectors: ...


def exact_top_k(vectors: Rows, queries: Vectors, k: int) -> tuple[Vectors, NDArray[np.int64]]:
    """Best k rows of `vectors`, shape (n, dim), for each query by inner product: scores and rows, (q, k), best first.

    Equal scores are ordered by row. Where k exceeds n, the rest has row -1 and score -inf. `vectors` may be mapped
    from disk: one block of it is read at a time.
    """
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    rows = np.full((len(queries), k), -1, dtype=np.int64)
    for start in range(0, len(vectors), BLOCK_ROWS):
        improve(scores, rows, queries, np.asarray(vectors[start : start + BLOCK_ROWS], dtype=np.float32), start)
    return scores, rows


def improve(scores: Vectors, rows: NDArray[np.int64], queries: Vectors, block: Vectors, start: int) -> None:
    """Let `block`, the rows from `start` on, into the best so far, in place; blocks come in the order of their rows."""
    for first in range(0, len(queries), BLOCK_QUERIES):
        found = queries[first : first + BLOCK_QUERIES] @ block.T
        # Equal ones come later and so do not count. Few are better than the last of the best, after the first blocks.
        better = found > scores[first : first + BLOCK_QUERIES, -1:]
        for number in np.flatnonzero(better.any(axis=1)).tolist():
            columns, query = np.flatnonzero(better[number]), first + number
            scores[query], rows[query] = (
                each[0]
                for each in best(
                    np.concatenate([scores[query], found[number, columns]])[None],
                    np.concatenate([rows[query], columns + start])[None],
                    scores.shape[1],
                )
            )


def best(scores: Vectors, rows: NDArray[np.int64], k: int) -> tuple[Vectors, NDArray[np.int64]]:
    """Best k columns of each row; equal scores in the order of their columns."""
    # A stable sort of columns that come in the order of their rows keeps the lower row first among equals.
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)
