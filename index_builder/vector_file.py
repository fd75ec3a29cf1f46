"""Vectors in files, read and written with plain calls: pages of a mapped file would count as memory of the process."""

import os
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lookalike.contracts.encoder import Vectors


class VectorFile:
    """Rows of floats in a file: written at any place, read in order or one by one."""

    def __init__(self, path: Path, dim: int, new: bool = False) -> None:
        """`new`: the file is made, and must not be there."""
        self.dim, self._path = dim, path
        self._file = path.open("x+b" if new else "rb", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return os.fstat(self._file.fileno()).st_size // (4 * self.dim)

    def __setitem__(self, rows: NDArray[np.int64], vectors: Vectors) -> None:
        order = np.argsort(rows)
        rows, vectors = rows[order], np.ascontiguousarray(vectors[order], dtype=np.float32)
        ends = [*(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        start = 0
        for end in ends if len(rows) else ():
            os.pwrite(self._file.fileno(), vectors[start:end].data, int(rows[start]) * self.dim * 4)
            start = end

    def read(self, start: int, stop: int) -> Vectors:
        """Rows from `start` to before `stop`, shape (stop - start, dim); zeros where nothing was written."""
        vectors = np.zeros((stop - start, self.dim), np.float32)
        if stop > start:
            os.preadv(self._file.fileno(), [vectors.data], start * self.dim * 4)
        return vectors

    def chosen(self, rows: NDArray[np.int64]) -> Vectors:
        """These rows, in their order."""
        return np.concatenate(
            [np.empty((0, self.dim), np.float32), *(self.read(row, row + 1) for row in rows.tolist())]
        )


class ShardRows:
    """Vectors of several files, one after the other, as one array that is read from disk: slices and chosen rows."""

    def __init__(self, paths: list[Path], dim: int) -> None:
        self._parts = [VectorFile(path, dim) for path in paths]
        self._starts = np.cumsum([0, *(len(part) for part in self._parts)])

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self._parts[0].dim

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Vectors:
        if isinstance(rows, slice):
            first, last, _ = rows.indices(len(self))
            cuts = []
            for part, start in zip(self._parts, self._starts.tolist(), strict=False):
                begin, end = max(first - start, 0), min(last - start, len(part))
                if begin < end:
                    cuts.append(part.read(begin, end))
            return np.concatenate([np.empty((0, self.shape[1]), np.float32), *cuts])
        chosen = np.empty((len(rows), self.shape[1]), np.float32)
        owner = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(owner).tolist():
            mine = owner == number
            chosen[mine] = self._parts[number].chosen(rows[mine] - self._starts[number])
        return chosen
