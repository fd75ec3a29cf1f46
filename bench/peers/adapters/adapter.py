"""What an engine must do to be measured; each adapter imports numpy and its one engine only.

Building and searching are two processes: the first saves into a folder, the second opens it, so that nothing of the
build is in the memory that is measured, and search can be measured again without a build.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from adapters.items import BLOCK_ROWS, Items, Vectors
from numpy.typing import NDArray

__all__ = ["BLOCK_ROWS", "Adapter", "Items", "Rows", "Setting", "Vectors", "doubling"]

Setting = dict[str, Any]
Rows = NDArray[np.int64]


class Adapter(ABC):
    """One engine in one configuration."""

    held = ""
    """How search is held to one thread, beyond the one core that all processes of an engine may use."""
    chosen: Setting | None = None
    """The setting that the engine itself would search with, where it chooses one."""
    reads_files = False
    """Whether search reads its files, so that their pages in memory count as its own."""
    finer = ""
    """Name of the file of codes that are read for candidates only, where there is one: its pages are shown apart."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options

    @abstractmethod
    def build(self, items: Items, folder: Path) -> None:
        """Index `items` and save into the empty `folder`."""

    @abstractmethod
    def open(self, folder: Path) -> None:
        """Open what `build` saved, for search."""

    @abstractmethod
    def settings(self) -> list[list[Setting]]:
        """Groups of search settings, cheap ones first; within a group only the second depth grows."""

    @abstractmethod
    def use(self, setting: Setting) -> None:
        """Search with this one from now on."""

    @abstractmethod
    def search(self, queries: Vectors, k: int) -> Rows:
        """Rows of the k nearest vectors to each query, shape (q, k); one query or many in one call."""

    def describe(self) -> str:
        """What was built, in the engine's words."""
        return ""

    def close(self) -> None:  # noqa: B027 - most engines have nothing to end
        """End what `build` or `open` started."""


def doubling(first: int, last: int, steps: int = 2) -> list[int]:
    """Whole numbers from `first` to `last`, so many in each doubling."""
    numbers = {first, last}
    at = 0
    while (number := round(first * 2 ** (at / steps))) < last:
        numbers.add(number)
        at += 1
    return sorted(numbers)
