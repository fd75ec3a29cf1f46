"""The vectors that an engine is to index, as the bench hands them to it: a file, or a pipe that they come through.

Standard library and numpy only. What a generator makes comes through the pipe block by block and lies nowhere.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
BLOCK_ROWS = 50_000


@dataclass(frozen=True)
class Items:
    """`rows` unit vectors of `dim` dimensions, in `file`, an .npy of float32 or float16, or once through `pipe`, a file
    descriptor, as float32. `sample`: an .npy of some of them, where there is no file. `mixture`: the file of the
    generator that makes them, for an engine that can ask it."""

    rows: int
    dim: int
    file: str | None = None
    pipe: int | None = None
    sample: str | None = None
    mixture: str | None = None

    def blocks(self, size: int = BLOCK_ROWS) -> Iterator[tuple[int, Vectors]]:
        """Number of the first row, and the vectors, float32, shape (`size` or fewer, dim); all rows in their order."""
        if self.file is not None:
            mapped = self.mapped()
            for start in range(0, self.rows, size):
                yield start, np.ascontiguousarray(mapped[start : start + size], dtype=np.float32)
            return
        assert self.pipe is not None
        with os.fdopen(self.pipe, "rb", buffering=2**20) as pipe:
            for start in range(0, self.rows, size):
                block = np.empty((min(size, self.rows - start), self.dim), np.float32)
                _fill(pipe, memoryview(block).cast("B"))
                yield start, block

    def some(self, count: int) -> Vectors:
        """At most so many, at even distances, float32."""
        kept = np.load(self.sample, mmap_mode="r") if self.file is None and self.sample else self.mapped()
        rows = np.linspace(0, len(kept) - 1, min(count, len(kept))).astype(np.int64)
        return np.ascontiguousarray(kept[rows], dtype=np.float32)

    def mapped(self) -> Any:
        """The file's array, mapped. Raises ValueError where there is none."""
        if self.file is None:
            raise ValueError("this engine takes one file of all vectors, and these come in blocks")
        return np.load(Path(self.file), mmap_mode="r")


def _fill(pipe: Any, wanted: memoryview) -> None:
    """Raises EOFError when the pipe ends before."""
    filled = 0
    while filled < len(wanted):
        got = pipe.readinto(wanted[filled:])
        if not got:
            raise EOFError("the vectors ended before their number was reached")
        filled += got
