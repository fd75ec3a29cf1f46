"""faiss: a graph over vectors, plain or in 8 bits."""

from pathlib import Path

import faiss
from adapters.adapter import Adapter, Items, Rows, Setting, Vectors, doubling

NAME = "index.faiss"
TRAINED = 100_000
"""Vectors whose range codes of 8 bits span."""


class FaissGraph(Adapter):
    """Options: `factory`, `ef_construction`."""

    held = "omp_set_num_threads(1)"

    def build(self, items: Items, folder: Path) -> None:
        """See Adapter."""
        index = faiss.index_factory(items.dim, self.options["factory"], faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = self.options["ef_construction"]
        if not index.is_trained:
            index.train(items.some(TRAINED))
        for _, rows in items.blocks():
            index.add(rows)
        faiss.write_index(index, str(folder / NAME))

    def open(self, folder: Path) -> None:
        """See Adapter."""
        faiss.omp_set_num_threads(1)
        self._index = faiss.read_index(str(folder / NAME))

    def settings(self) -> list[list[Setting]]:
        """See Adapter."""
        return [[{"efSearch": depth}] for depth in doubling(10, 2_048)]

    def use(self, setting: Setting) -> None:
        """See Adapter."""
        self._parameters = faiss.SearchParametersHNSW(**setting)

    def search(self, queries: Vectors, k: int) -> Rows:
        """See Adapter."""
        return self._index.search(queries, k, params=self._parameters)[1]

    def describe(self) -> str:
        """See Adapter."""
        return f"{self.options['factory']}, efConstruction {self.options['ef_construction']}"
