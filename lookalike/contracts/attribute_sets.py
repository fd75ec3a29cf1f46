"""The AttributeSets port: which rows have which value, known beforehand. Implemented in `index_builder`."""

from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike.contracts.row_set import RowSet


class AttributeSets(Protocol):
    """Sets of rows by field (as in a filter) and value, found without looking at the rows. Thread-safe."""

    @property
    def attributes(self) -> Mapping[str, int]:
        """Names that occur in `attributes`, sorted, and how often."""
        ...

    def having(self, field: str, values: Iterable[str] | Iterable[float]) -> RowSet:
        """Rows that have any of these values: numbers for price and stock, texts for all else."""
        ...

    def between(self, field: str, low: float, high: float) -> RowSet:
        """Rows with a number from `low` to `high`, both included. Of fields with numbers only."""
        ...

    def has_numbers(self, field: str) -> bool:
        """Whether any row has a number there, or a text that is one."""
        ...

    def counts(self, field: str) -> tuple[pa.Array, NDArray[np.int64]]:
        """Values of a field that is no attribute, ascending, and in how many rows each is."""
        ...

    def bounds(self, field: str) -> tuple[float | None, float | None]:
        """Smallest and largest number of a field (whole numbers as int), None without any; NaN is none."""
        ...
