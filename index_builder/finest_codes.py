"""Finest codes: the most exact form of every row that an artifact holds, mapped from disk and read by row.

They are most of an artifact's bytes and need not fit into memory. Rows that are not in the page cache are all asked for
before the first one is read, so that the disk has many reads in flight and not one after the other: 200 rows in 3 ms
instead of 11 to 21. Asking for what is there already would cost 0.4 ms, so a few rows are looked at first.
"""

import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from index_builder.axes import Axes
from index_builder.search_parameters import parameters
from lookalike.contracts.encoder import Vectors
from lookalike.contracts.sealed_index import Rows

LOOKED_AT = 16
PAGE = mmap.PAGESIZE


class FinestCodes:
    """Rows of `index`, the part of an index that holds the finest codes. Thread-safe."""

    def __init__(self, index: Any, items: int, file: Path | None = None, axes: Axes | None = None) -> None:
        """`file`: where the codes lie when they have a file of their own, at its end. `axes`: those that are coded."""
        self.index, self._axes = index, axes or Axes()
        size = int(index.code_size)
        self._paged = None if file is None else PagedRows(file, items, size)
        if self._paged is None:
            self._codes = faiss.rev_swig_ptr(index.codes.data(), items * size).reshape(-1, size)
            self._codes.flags.writeable = False
        else:
            self._codes = self._paged.rows

    def let_go(self) -> None:
        """Take pages that were read out of this process's memory; the system's cache keeps them."""
        if self._paged is not None:
            self._paged.let_go()

    def vectors(self, rows: Rows) -> Vectors:
        """Vectors of the rows on the encoder's axes, float32, shape (len(rows), dim)."""
        return self._axes.own(self._decoded(rows))

    def scores(self, queries: Vectors, rows: Rows) -> Vectors:
        """Inner products of each query with each of the rows, shape (q, len(rows))."""
        return np.asarray(self._axes.of_queries(queries) @ self._decoded(rows).T)

    def scan(self, queries: Vectors, k: int, chosen: Any | None) -> tuple[Vectors, Rows]:
        """Best k of all rows that the selector allows, by comparing every one: scores and rows, shape (q, k)."""
        asked = np.ascontiguousarray(self._axes.of_queries(queries))
        scores, rows = self.index.search(asked, k, params=parameters(self.index, {}, chosen))
        return scores, rows

    def _decoded(self, rows: Rows) -> Vectors:
        """On the axes that are coded."""
        if self._paged is not None:
            self._paged.ask_for(rows)
        # Gathered and decoded in one call: `reconstruct_batch` sets up a decoder per row, six times as slow.
        return np.asarray(self.index.sa_decode(self._codes[rows]))

    def in_memory(self, rows: Rows) -> bool:
        """Whether these few rows can be read without a disk."""
        return self._paged is None or self._paged.in_memory(rows)

    def best_of(self, queries: Vectors, candidates: Rows, k: int) -> tuple[Vectors, Rows]:
        """Best k of each query's candidates, shape (q, c), -1 for none: scores and rows, shape (q, k), best first.

        Equal scores are ordered by row.
        """
        return self.best_of_first(queries, candidates, k, [candidates.shape[1]])[0]

    def best_of_first(
        self, queries: Vectors, candidates: Rows, k: int, depths: Sequence[int]
    ) -> list[tuple[Vectors, Rows]]:
        """`best_of` the first so many candidates, for each of `depths`; a row is read and decoded once for all."""
        shape = len(queries), k
        best = [(np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int64)) for _ in depths]
        asked = self._axes.of_queries(queries)
        for number, (query, found) in enumerate(zip(asked, candidates, strict=True)):
            places = np.argsort(found)[np.count_nonzero(found < 0) :]
            known = found[places]
            dots = self._decoded(known) @ query
            for depth, (scores, rows) in zip(depths, best, strict=True):
                first = np.flatnonzero(places < depth)
                order = first[np.argsort(-dots[first], kind="stable")[:k]]
                scores[number, : len(order)], rows[number, : len(order)] = dots[order], known[order]
        return best


class PagedRows:
    """Fixed-size rows at the end of a file, mapped. Closed when nothing refers to it any more."""

    def __init__(self, file: Path, items: int, size: int) -> None:
        self._file = file.open("rb", buffering=0)
        self._size = size
        length = file.stat().st_size
        self._start = length - items * size
        self._map = mmap.mmap(self._file.fileno(), length, prot=mmap.PROT_READ)
        # Neighbours of a row are of no use to anybody; the default would read 32 pages for one.
        self._map.madvise(mmap.MADV_RANDOM)
        self.rows: NDArray[np.uint8] = np.frombuffer(self._map, np.uint8, items * size, self._start).reshape(-1, size)

    def let_go(self) -> None:
        """See FinestCodes."""
        self._map.madvise(mmap.MADV_DONTNEED)

    def ask_for(self, rows: Rows) -> None:
        """Let the kernel read these rows at once, unless they seem to be in memory."""
        if len(rows) < LOOKED_AT or self.in_memory(rows[:: len(rows) // LOOKED_AT]):
            return
        first = self._start + rows * self._size
        pages = np.unique(np.concatenate([first // PAGE, (first + self._size - 1) // PAGE]))
        for page in pages.tolist():
            self._map.madvise(mmap.MADV_WILLNEED, page * PAGE, min(PAGE, len(self._map) - page * PAGE))

    def in_memory(self, rows: Rows) -> bool:
        """Whether these few rows are in the page cache."""
        buffer = bytearray(1)
        try:
            for row in rows.tolist():
                os.preadv(self._file.fileno(), [buffer], self._start + row * self._size, os.RWF_NOWAIT)
        except BlockingIOError:
            return False
        except OSError:  # a file system that does not answer this question is no disk either
            return True
        return True
