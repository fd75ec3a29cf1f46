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
    for first in range(0, len(queries), BLOCK_QUERIES):
        part = slice(first, first + BLOCK_QUERIES)
        for start in range(0, len(vectors), BLOCK_ROWS):
            block = np.asarray(vectors[start : start + BLOCK_ROWS], dtype=np.float32)
            found = queries[part] @ block.T
            numbers = np.broadcast_to(np.arange(start, start + len(block)), found.shape)
            scores[part], rows[part] = best(
                np.concatenate([scores[part], found], axis=1), np.concatenate([rows[part], numbers], axis=1), k
            )
    return scores, rows


def best(scores: Vectors, rows: NDArray[np.int64], k: int) -> tuple[Vectors, NDArray[np.int64]]:
    """Best k columns of each row; equal scores in the order of their columns."""
    # A stable sort of columns that come in the order of their rows keeps the lower row first among equals.
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)
