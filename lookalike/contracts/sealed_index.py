"""The SealedIndex port: a read-only index with its item columns. Implemented in `index_builder`, used by search."""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike.contracts.encoder import Vectors
from lookalike.contracts.manifest import Manifest

Rows = NDArray[np.int64]


class SealedIndex(Protocol):
    """Rows 0..items-1; row i of `columns` describes vector i. Thread-safe for reading."""

    @property
    def manifest(self) -> Manifest: ...

    @property
    def columns(self) -> pa.Table:
        """Item columns, one row per vector: the SILVER contract's columns without snapshot_id, deleted, shard."""
        ...

    def search(self, queries: Vectors, k: int, allowed: NDArray[np.bool_] | None = None) -> tuple[Vectors, Rows]:
        """Best k rows per query by inner product: scores and rows, shape (len(queries), k), best first.

        `allowed`, shape (items,), restricts the result. Missing results have row -1 and score -inf.
        """
        ...

    def planned_search(
        self, queries: Vectors, k: int, allowed: NDArray[np.bool_] | None = None, exact: bool = False
    ) -> tuple[Vectors, Rows, Literal["index", "exact"]]:
        """`search`, and how it was answered: "exact" when every allowed row was compared. `exact` demands that."""
        ...

    def vectors(self, rows: Rows) -> Vectors:
        """Vectors of the rows as the artifact holds them (decoded from its finest codes), shape (len(rows), dim)."""
        ...

    def rows_of(self, item_ids: Sequence[str]) -> Rows:
        """Row of each item id, -1 where the index does not have it."""
        ...
