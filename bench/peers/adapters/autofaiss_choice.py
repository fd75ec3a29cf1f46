"""autofaiss: it chooses kind of index and search parameters for a memory bound; then its index is searched by faiss."""

import json
import os
import shutil
from pathlib import Path

import faiss
import numpy as np
from adapters.adapter import Adapter, Items, Rows, Setting, Vectors, doubling
from autofaiss import build_index

NAME, INFOS = "knn.index", "infos.json"
PARAMETERS = "parameters"
FREE_MEMORY = 0.9
"""Share of the machine's memory that it is told is there."""


class AutofaissChoice(Adapter):
    """Options: `bytes_per_vector`, the bound on the index's memory; without it, autofaiss's own default."""

    held = "omp_set_num_threads(1)"

    def build(self, items: Items, folder: Path) -> None:
        """See Adapter."""
        source = folder / "source"
        source.mkdir()
        # It reads files block by block; an array it would first write into one.
        (source / "vectors.npy").symlink_to(Path(items.mapped().filename).resolve())
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * FREE_MEMORY / 2**30
        bound = {}
        if "bytes_per_vector" in self.options:
            mebibytes = self.options["bytes_per_vector"] * items.rows / 2**20
            bound = {"max_index_memory_usage": f"{mebibytes:.1f}M"}
        index, infos = build_index(
            embeddings=str(source), index_path=str(folder / NAME), index_infos_path=str(folder / INFOS),
            current_memory_available=f"{memory:.1f}G", metric_type="ip", **bound,
        )  # fmt: skip
        if index is None:
            raise RuntimeError(f"autofaiss built nothing within {bound or 'its default bound'}; see what it wrote")
        infos = {name: value for name, value in infos.items() if isinstance(value, str | int | float)}
        (folder / INFOS).write_text(json.dumps(infos))
        shutil.rmtree(source)

    def open(self, folder: Path) -> None:
        """See Adapter."""
        faiss.omp_set_num_threads(1)
        self._index = faiss.read_index(str(folder / NAME))
        self._infos = json.loads((folder / INFOS).read_text())
        self.chosen = {PARAMETERS: self._infos["index_param"]}

    def settings(self) -> list[list[Setting]]:
        """See Adapter."""
        key, given = self._infos["index_key"], self._infos["index_param"]
        if "IVF" not in key:
            return [[{PARAMETERS: f"efSearch={depth}"}] for depth in doubling(10, 2_048)]
        # What it chose beside nprobe stays as it is, such as the depth of the search for lists.
        others = [part for part in given.split(",") if not part.startswith("nprobe=")]
        lists = faiss.extract_index_ivf(self._index).nlist
        return [[{PARAMETERS: ",".join([f"nprobe={probes}", *others])}] for probes in doubling(1, min(lists, 4_096))]

    def use(self, setting: Setting) -> None:
        """See Adapter."""
        faiss.ParameterSpace().set_index_parameters(self._index, setting[PARAMETERS])

    def search(self, queries: Vectors, k: int) -> Rows:
        """See Adapter."""
        return np.asarray(self._index.search(queries, k)[1])

    def describe(self) -> str:
        """See Adapter."""
        return f"{self._infos['index_key']} with {self._infos['index_param']}"
