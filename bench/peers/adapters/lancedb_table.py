"""LanceDB: a table on disk with an index of the named kind, the rest as it chooses by itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
from adapters.adapter import Adapter, Items, Rows, Setting, Vectors, doubling

TABLE = "vectors"
REFINED, GRAPH_REFINED = (1, 4, 10, 30), (1, 2, 4)
"""Times k candidates whose full vectors are read; a graph must look at as many."""
K = 10


class LancedbTable(Adapter):
    """Options: `index_type`."""

    held = "LANCE_CPU_THREADS=1, LANCE_IO_THREADS=1, TOKIO_WORKER_THREADS=1"
    reads_files = True

    def build(self, items: Items, folder: Path) -> None:
        """See Adapter."""
        dim = items.dim
        schema = pa.schema([pa.field("row", pa.int64()), pa.field("vector", pa.list_(pa.float32(), dim))])

        def batches() -> Iterator[pa.RecordBatch]:
            for start, rows in items.blocks():
                column = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), dim)
                yield pa.record_batch([pa.array(np.arange(start, start + len(rows))), column], schema=schema)

        table = lancedb.connect(str(folder)).create_table(
            TABLE, data=pa.RecordBatchReader.from_batches(schema, batches())
        )
        table.create_index(metric="dot", vector_column_name="vector", **self.options)

    def open(self, folder: Path) -> None:
        """See Adapter."""
        self._table = lancedb.connect(str(folder)).open_table(TABLE)
        self._rows = self._table.count_rows()

    def settings(self) -> list[list[Setting]]:
        """See Adapter."""
        if "HNSW" in self.options["index_type"]:  # its graphs are few and large, and by default all are searched
            return [
                [{"ef": deep, "refine_factor": times} for times in GRAPH_REFINED if times * K <= deep]
                for deep in doubling(16, 1_024, steps=1)
            ]
        probes = doubling(1, 512, steps=1)
        return [[{"nprobes": number, "refine_factor": times} for times in REFINED] for number in probes]

    def use(self, setting: Setting) -> None:
        """See Adapter."""
        self._setting = setting

    def search(self, queries: Vectors, k: int) -> Rows:
        """See Adapter."""
        asked: Any = queries[0] if len(queries) == 1 else list(queries)
        query = (
            self._table.search(asked, vector_column_name="vector")
            .distance_type("dot")
            .limit(k)
            .select(["row", "_distance"])
        )
        for name, value in self._setting.items():
            query = getattr(query, name)(value)
        found = query.to_arrow()
        numbers = found["row"].to_numpy()
        rows = np.full((len(queries), k), -1, np.int64)
        if len(queries) == 1:
            rows[0, : len(numbers)] = numbers
        else:
            which = found["query_index"].to_numpy()
            for at in range(len(queries)):
                mine = numbers[which == at][:k]
                rows[at, : len(mine)] = mine
        return rows

    def describe(self) -> str:
        """See Adapter."""
        return ", ".join(f"{index.index_type}" for index in self._table.list_indices())
