"""hnswlib: the reference graph, over float32 vectors."""

from pathlib import Path

import hnswlib
import numpy as np
from adapters.adapter import Adapter, Items, Rows, Setting, Vectors, doubling

NAME, SHAPE = "index.bin", "dim.txt"


class HnswlibGraph(Adapter):
    """Options: `M`, `ef_construction`."""

    held = "set_num_threads(1)"

    def build(self, items: Items, folder: Path) -> None:
        """See Adapter."""
        index = hnswlib.Index(space="ip", dim=items.dim)
        index.init_index(max_elements=items.rows, **self.options)
        for start, rows in items.blocks():
            index.add_items(rows, np.arange(start, start + len(rows)))
        index.save_index(str(folder / NAME))
        (folder / SHAPE).write_text(str(items.dim))

    def open(self, folder: Path) -> None:
        """See Adapter."""
        self._index = hnswlib.Index(space="ip", dim=int((folder / SHAPE).read_text()))
        self._index.load_index(str(folder / NAME))
        self._index.set_num_threads(1)

    def settings(self) -> list[list[Setting]]:
        """See Adapter."""
        return [[{"ef": depth}] for depth in doubling(10, 2_048)]

    def use(self, setting: Setting) -> None:
        """See Adapter."""
        self._index.set_ef(setting["ef"])

    def search(self, queries: Vectors, k: int) -> Rows:
        """See Adapter."""
        return self._index.knn_query(queries, k)[0].astype(np.int64)

    def describe(self) -> str:
        """See Adapter."""
        return f"M {self.options['M']}, ef_construction {self.options['ef_construction']}, float32"
