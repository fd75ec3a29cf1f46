"""Value table: the values of one field in order, each with the set of its rows; an Arrow file that is mapped.

A value is found by bisection, its set is read where it lies. Tables of numbers hold, every so many rows, the set of all
rows with smaller numbers ("range-encoded bitmaps": Chan & Ioannidis, Bitmap index design and evaluation, SIGMOD 1998):
a range is the difference of two such sets, each put right by the rows of the few numbers in between.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from index_builder.sorted_rows import Sorted, order_of, packed
from lookalike.contracts.row_set import RowSet, add_rows, no_bits

BOUNDS = 64
"""Sets of smaller numbers: 8 bytes per row for a field that every row has."""
BOUND_ROWS = 8_192
"""So few rows between two of them are put into a set at once."""


def value_schema(kind: pa.DataType) -> pa.Schema:
    """`value`, `count` of its rows, `set` (RowSet.data); for numbers `below`, in some rows: the rows of all smaller."""
    below = [pa.field("below", pa.binary())] if pa.types.is_floating(kind) else []
    return pa.schema([pa.field("value", kind), pa.field("count", pa.int32()), pa.field("set", pa.binary()), *below])


def value_batches(values: Iterable[Sorted], schema: pa.Schema, items: int) -> Iterator[pa.RecordBatch]:
    """The batches of a table of this schema."""
    if "below" not in schema.names:
        for part in values:
            yield pa.record_batch(_columns(part), schema=schema)
        return
    step = max(items // BOUNDS, BOUND_ROWS)
    below, since = no_bits(items), 0
    for given in values:
        for part in given.cut(max(step // 4, 1)):
            bound = below.tobytes() if since >= step else None
            yield pa.record_batch(
                [*_columns(part), pa.array([bound] + [None] * (len(part) - 1), pa.binary())], schema=schema
            )
            since = (0 if bound else since) + int(part.counts.sum())
            if part.bits is None:
                add_rows(below, part.rows)
            else:
                below |= part.bits


def _columns(part: Sorted) -> list[pa.Array]:
    sets = packed(part.rows, part.counts, pa.binary()) if part.bits is None else pa.array([part.bits.tobytes()])
    return [part.values, pa.array(part.counts, pa.int32()), sets]


class ValueTable:
    """One field. Nothing but the places of the bounds is kept in memory. Thread-safe."""

    def __init__(self, table: pa.Table, items: int) -> None:
        """`table`: as `value_schema` says."""
        self.values, self.counts, self._sets = table["value"], table["count"], table["set"]
        self._below = table["below"] if "below" in table.column_names else None
        self._bounds = [] if self._below is None else _first_places(self._below)
        self._items = items

    def having(self, values: Iterable[Any]) -> RowSet:
        """Rows that have any of these values."""
        spans = [self.span(value, value) for value in values]
        return RowSet.union([self._union(*span) for span in spans], self._items)

    def span(self, low: Any, high: Any) -> tuple[int, int]:
        """Places of the values from `low` to `high`, both included: from, to before."""
        places = range(len(self.values))
        start = bisect_left(places, order_of(low), key=self._order_at)
        return start, bisect_right(places, order_of(high), lo=start, key=self._order_at)

    def starting_with(self, beginning: str) -> tuple[int, int]:
        """Places of the texts that begin so: from, to before."""

        def beginning_at(place: int) -> str:
            return str(self.values[place].as_py()[: len(beginning)])

        places = range(len(self.values))
        start = bisect_left(places, beginning, key=beginning_at)
        return start, bisect_right(places, beginning, lo=start, key=beginning_at)

    def between(self, low: float, high: float) -> RowSet:
        """Rows with a number from `low` to `high`, both included. Of tables of numbers: there a row has one value."""
        start, stop = self.span(low, high)
        if bisect_right(self._bounds, start) == bisect_right(self._bounds, stop - 1):
            return self._union(start, stop)
        return self._smaller(stop) & ~self._smaller(start)

    def pairs(self, start: int, stop: int) -> Iterator[tuple[pa.Array, NDArray[np.int64], NDArray[np.int32]]]:
        """Of the values of these places, in parts: values, how many rows each has, and the rows in that order."""
        table = pa.table([self.values, self.counts, self._sets], names=["value", "count", "set"])
        for batch in table.slice(start, stop - start).to_batches():
            sets = batch["set"]
            rows = self._only(sets).rows().astype(np.int32) if len(sets) == 1 else _bytes(sets).view(np.int32)
            yield batch["value"], batch["count"].to_numpy().astype(np.int64), rows

    def _smaller(self, place: int) -> RowSet:
        """Rows of all values before this place."""
        at = bisect_right(self._bounds, place) - 1
        if at < 0 or self._below is None:
            return self._union(0, place)
        bound = self._bounds[at]
        below = self._only(self._below.slice(bound, 1).chunk(0))
        return RowSet.union([below, self._union(bound, place)], self._items)

    def _union(self, start: int, stop: int) -> RowSet:
        """Rows of the values from one place to before another."""
        sets, rows = [], []
        for chunk in self._sets.slice(start, max(stop - start, 0)).chunks:
            if len(chunk) == 1:
                sets.append(self._only(chunk))
            elif len(chunk):
                rows.append(_bytes(chunk).view(np.int32))
        if rows:
            sets.append(RowSet.of_rows(np.sort(np.concatenate(rows)), self._items))
        return RowSet.union(sets, self._items)

    def _only(self, sets: pa.Array) -> RowSet:
        """The set that is alone there."""
        return RowSet.read(_bytes(sets), self._items)

    def _order_at(self, place: int) -> Any:
        return order_of(self.values[place].as_py())


def _bytes(sets: pa.Array) -> NDArray[np.uint8]:
    """Data of all sets, where it lies: rows, for where values share a batch, none has bits."""
    _, offsets, data = sets.buffers()
    ends = np.frombuffer(offsets, np.int32)[sets.offset : sets.offset + len(sets) + 1]
    return np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]


def _first_places(below: pa.ChunkedArray) -> list[int]:
    """Places of the sets of smaller numbers: each is the first of its batch, if it has one."""
    ends = np.cumsum([len(chunk) for chunk in below.chunks])
    return [int(end) - len(each) for each, end in zip(below.chunks, ends, strict=True) if each.null_count < len(each)]
