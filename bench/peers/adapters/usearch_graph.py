"""usearch: a graph over vectors of the number type that it chooses itself, or that is named."""

from pathlib import Path

import numpy as np
from adapters.adapter import Adapter, Items, Rows, Setting, Vectors, doubling
from usearch.index import Index

NAME = "index.usearch"


class UsearchGraph(Adapter):
    """Options: those of its Index, such as `dtype` and `connectivity`; without any, its defaults."""

    held = "threads=1 in each search"

    def build(self, items: Items, folder: Path) -> None:
        """See Adapter."""
        index = Index(ndim=items.dim, metric="cos", **self.options)
        for start, rows in items.blocks():
            index.add(np.arange(start, start + len(rows), dtype=np.uint64), rows)
        index.save(str(folder / NAME))

    def open(self, folder: Path) -> None:
        """See Adapter."""
        found = Index.restore(str(folder / NAME))
        assert found is not None
        self._index = found

    def settings(self) -> list[list[Setting]]:
        """See Adapter."""
        return [[{"expansion_search": depth}] for depth in doubling(10, 2_048)]

    def use(self, setting: Setting) -> None:
        """See Adapter."""
        self._index.expansion_search = setting["expansion_search"]

    def search(self, queries: Vectors, k: int) -> Rows:
        """See Adapter."""
        one = len(queries) == 1
        keys = self._index.search(queries[0] if one else queries, k, threads=1).keys
        return np.asarray(keys).astype(np.int64).reshape(len(queries), -1)

    def describe(self) -> str:
        """See Adapter."""
        return f"connectivity {self._index.connectivity}, {self._index.dtype}, {self._index.hardware_acceleration}"
