"""The SealedIndex port: a read-only index with its item columns, and VectorBlock for the vectors that come after it.

Implemented in `index_builder`, used by search.
"""

from collections.abc import Sequence
from typing import Literal, Protocol, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike.contracts.attribute_sets import AttributeSets
from lookalike.contracts.encoder import Vectors
from lookalike.contracts.manifest import Manifest
from lookalike.contracts.row_set import RowSet

Rows = NDArray[np.int64]


class VectorBlock(Protocol):
    """Vectors that never change, in a coarse form that is quick to scan, with a bound on its error. Thread-safe.

    A search that scans the coarse form and compares whatever may be among the best by the bound is exact, and reads a
    quarter of the memory. Positions are 0..len-1.
    """

    def __len__(self) -> int: ...

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        ...

    @property
    def error(self) -> float:
        """No coarse score of a query of norm 1 is further from the true inner product than this."""
        ...

    def nearest(self, query: Vectors, k: int, allowed: NDArray[np.bool_]) -> tuple[Vectors, Rows]:
        """Coarse scores and positions of the best min(k, allowed) for one query, shape (dim,), best first.

        `allowed`, shape (len,), says which positions may be found.
        """
        ...

    def joined(self, other: Self) -> Self:
        """A block of this one's vectors, then the other's."""
        ...


class SealedIndex(Protocol):
    """Rows 0..items-1; row i of `columns` describes vector i. Thread-safe for reading."""

    @property
    def manifest(self) -> Manifest: ...

    @property
    def columns(self) -> pa.Table:
        """Item columns, one row per vector: the SILVER contract's columns without snapshot_id, deleted, shard."""
        ...

    @property
    def sets(self) -> AttributeSets | None:
        """Sets of rows by value of the columns; None where the artifact holds none."""
        ...

    def search(self, queries: Vectors, k: int, allowed: RowSet | None = None) -> tuple[Vectors, Rows]:
        """Best k rows per query by inner product: scores and rows, shape (len(queries), k), best first.

        `allowed`, of as many items, restricts the result. Missing results have row -1 and score -inf.
        """
        ...

    def planned_search(
        self, queries: Vectors, k: int, allowed: RowSet | None = None, exact: bool = False
    ) -> tuple[Vectors, Rows, Literal["index", "exact"]]:
        """`search`, and how it was answered: "exact" when every allowed row was compared. `exact` demands that."""
        ...

    def vectors(self, rows: Rows) -> Vectors:
        """Vectors of the rows as the artifact holds them (decoded from its finest codes), shape (len(rows), dim)."""
        ...

    def rows_of(self, item_ids: Sequence[str]) -> Rows:
        """Row of each item id, -1 where the index does not have it."""
        ...

    def block(self, vectors: Vectors) -> VectorBlock:
        """A block of other vectors of norm 1, shape (n, dim), in this index's space."""
        ...
