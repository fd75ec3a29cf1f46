"""ScaNN: a tree of partitions, 4-bit codes, and reordering, set up as its documentation says."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import scann
from adapters.adapter import Adapter, Items, Rows, Setting, Vectors, doubling
from scann.scann_ops.py.scann_builder import ReorderType

SAMPLE = 250_000
LEAVES_PER_ROOT = 2
"""Its example has 2,000 leaves for 1.2 million vectors."""
PER_BLOCK, THRESHOLD, REORDERED = 2, 0.2, 100
LEAVES_NAME = "leaves.txt"


class ScannTree(Adapter):
    """Options: `soar_lambda` and `overretrieve_factor` of the tree; `reorder`: number type that reordering keeps."""

    held = "search and search_batched, which are not the parallel ones; set_num_threads(1)"

    def build(self, items: Items, folder: Path) -> None:
        """See Adapter."""
        leaves = round(LEAVES_PER_ROOT * math.sqrt(items.rows))
        tree: dict[str, Any] = {key: value for key, value in self.options.items() if key != "reorder"}
        reorder = ReorderType[self.options.get("reorder", "FLOAT32")]
        builder = scann.scann_ops_pybind.builder(np.asarray(items.mapped(), np.float32), 10, "dot_product")
        builder.set_n_training_threads(os.cpu_count())
        builder.tree(leaves, max(1, leaves // 20), training_sample_size=min(SAMPLE, items.rows), **tree)
        builder.score_ah(PER_BLOCK, anisotropic_quantization_threshold=THRESHOLD)
        builder.reorder(REORDERED, quantize=reorder).build().serialize(str(folder))
        (folder / LEAVES_NAME).write_text(str(leaves))

    def open(self, folder: Path) -> None:
        """See Adapter."""
        self._searcher = scann.scann_ops_pybind.load_searcher(str(folder))
        self._searcher.set_num_threads(1)
        self._leaves = int((folder / LEAVES_NAME).read_text())

    def settings(self) -> list[list[Setting]]:
        """See Adapter."""
        return [
            [{"leaves_to_search": leaves, "pre_reorder_num_neighbors": depth} for depth in (20, 40, 80, 160, 320, 640)]
            for leaves in doubling(4, self._leaves)
        ]

    def use(self, setting: Setting) -> None:
        """See Adapter."""
        self._setting = setting

    def search(self, queries: Vectors, k: int) -> Rows:
        """See Adapter."""
        if len(queries) == 1:
            return self._searcher.search(queries[0], k, **self._setting)[0][None].astype(np.int64)
        return self._searcher.search_batched(queries, k, **self._setting)[0].astype(np.int64)

    def describe(self) -> str:
        """See Adapter."""
        more = [f"{name} {value}" for name, value in self.options.items()]
        return ", ".join(
            [f"{self._leaves:,} leaves", f"AH {PER_BLOCK} dimensions a block, threshold {THRESHOLD}", *more]
        )
