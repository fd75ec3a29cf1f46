"""Milvus: the server of one process that its Python package starts, spoken to by its client."""

import contextlib
import subprocess
from pathlib import Path

import numpy as np
from adapters.adapter import Adapter, Items, Rows, Setting, Vectors, doubling
from milvus import default_server
from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, connections, utility

COLLECTION = "vectors"
MESSAGE_ROWS = 10_000
STOP_SECONDS = 60.0
LISTS_PER_ROOT = 4
BUILD = {"HNSW": {"M": 16, "efConstruction": 200}}
"""Of kinds with lists, their number is 4 times the root of the number of vectors, as its documentation says."""


class MilvusServer(Adapter):
    """Options: `index_type`."""

    held = "the server too has one core only: its Go and its search threads see one"

    def build(self, items: Items, folder: Path) -> None:
        """See Adapter."""
        self._start(folder)
        fields = [
            FieldSchema("row", DataType.INT64, is_primary=True),
            FieldSchema("vector", DataType.FLOAT_VECTOR, dim=items.dim),
        ]
        collection = Collection(COLLECTION, CollectionSchema(fields))
        for start, rows in items.blocks(MESSAGE_ROWS):
            collection.insert([np.arange(start, start + len(rows)), list(rows)])
        collection.flush()
        kind = self.options["index_type"]
        given = BUILD.get(kind) or {"nlist": round(LISTS_PER_ROOT * items.rows**0.5)}
        collection.create_index("vector", {"index_type": kind, "metric_type": "IP", "params": given})
        utility.wait_for_index_building_complete(COLLECTION)
        (folder / "given.txt").write_text(f"{kind} {given}")
        self.close()

    def open(self, folder: Path) -> None:
        """See Adapter."""
        self._start(folder)
        self._collection = Collection(COLLECTION)
        self._collection.load()
        self._given = (folder / "given.txt").read_text()

    def settings(self) -> list[list[Setting]]:
        """See Adapter."""
        kind = self.options["index_type"]
        if kind == "HNSW":
            return [[{"ef": depth}] for depth in doubling(10, 2_048)]
        probes = doubling(1, 512)
        if kind == "SCANN":
            return [[{"nprobe": number, "reorder_k": deep} for deep in (20, 50, 100, 200, 500)] for number in probes]
        return [[{"nprobe": number}] for number in probes]

    def use(self, setting: Setting) -> None:
        """See Adapter."""
        self._parameters = {"metric_type": "IP", "params": setting}

    def search(self, queries: Vectors, k: int) -> Rows:
        """See Adapter."""
        found = self._collection.search(list(queries), "vector", self._parameters, limit=k)
        rows = np.full((len(queries), k), -1, np.int64)
        for at, hits in enumerate(found):
            rows[at, : len(hits)] = hits.ids
        return rows

    def describe(self) -> str:
        """See Adapter."""
        segments = utility.get_query_segment_info(COLLECTION)
        return f"{self._given}, {len(segments)} segments"

    def close(self) -> None:
        """Stop the server in its own time: it would be killed after a second."""
        connections.disconnect("default")
        process = default_server.server_proc
        if process is not None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        default_server.stop()

    def _start(self, folder: Path) -> None:
        default_server.set_base_dir(str(folder / "server"))
        default_server.start()
        connections.connect("default", host="127.0.0.1", port=default_server.listen_port)
