"""Sorted rows: pairs of a value and a row, in any number and order → each value with its rows, in the order of values.

What is too much for memory is sorted in runs that go to files, and the runs are merged block by block: memory holds
one run, whatever there is in all.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import ipc

from lookalike.contracts.row_set import RowSet, add_rows, is_few, no_bits

RUN_PAIRS = 2_000_000
RUN_BYTES = 128 * 2**20
"""Of values: long texts end a run before its pairs do."""
BLOCK_PAIRS = 65_536
"""A run is read in blocks of about so many pairs."""
ROW_BITS = 32


@dataclass(frozen=True)
class Sorted:
    """Distinct `values`, ascending; `counts[i]` rows of value i, ascending, lie one after the other in `rows`.

    A value with so many rows that bits take less room stands alone, with `bits` in place of its rows.
    """

    values: pa.Array
    counts: NDArray[np.int64]
    rows: NDArray[np.int32]
    bits: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def part(self, start: int, stop: int) -> "Sorted":
        """Values from `start` to before `stop`."""
        first, last = int(self.counts[:start].sum()), int(self.counts[:stop].sum())
        return Sorted(self.values.slice(start, stop - start), self.counts[start:stop], self.rows[first:last])

    def cut(self, pairs: int) -> Iterator["Sorted"]:
        """The same in parts of at most `pairs` pairs or one value."""
        if self.bits is not None:
            yield self
            return
        ends, start = np.cumsum(self.counts), 0
        while start < len(self):
            before = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + pairs, side="right")))
            yield self.part(start, stop)
            start = stop


class RowSorter:
    """Takes pairs and gives them back sorted, each pair once."""

    def __init__(self, scratch: Path, items: int) -> None:
        """`scratch`: a folder for the runs, of one sorter at a time. Rows are within 0..items-1."""
        self._scratch, self._items = scratch, items
        self._values: list[pa.Array] = []
        self._rows: list[NDArray[np.int32]] = []
        self._runs: list[Path] = []

    def add(self, values: pa.Array, rows: NDArray[np.int32]) -> None:
        """Values, none null, and the row of each. Equal pairs must come in one call."""
        self._values.append(values)
        self._rows.append(rows)
        if sum(map(len, self._rows)) >= RUN_PAIRS or sum(each.nbytes for each in self._values) >= RUN_BYTES:
            self._write_run()

    def sorted(self) -> Iterator[Sorted]:
        """All that was added, in parts of any size; afterwards nothing is left."""
        if not self._runs:
            runs = [iter([self._run()] if self._values else [])]
        else:
            if self._values:
                self._write_run()
            runs = [_read_run(path) for path in self._runs]
        yield from _merged(runs, self._items)
        for path in self._runs:
            path.unlink()
        self._runs = []

    def _run(self) -> Sorted:
        distinct, codes = _coded(self._values)
        rows = np.concatenate(self._rows)
        self._values, self._rows = [], []
        return _in_order(distinct, pc.sort_indices(distinct).to_numpy(), np.concatenate(codes), rows)

    def _write_run(self) -> None:
        run = self._run()
        path = self._scratch / f"{len(self._runs):05d}.run"
        schema = pa.schema([("value", run.values.type), ("count", pa.int64()), ("rows", pa.large_binary())])
        with pa.OSFile(str(path), "wb") as sink, ipc.new_file(sink, schema) as writer:
            for part in run.cut(BLOCK_PAIRS):
                columns = [part.values, pa.array(part.counts), packed(part.rows, part.counts, pa.large_binary())]
                writer.write_batch(pa.record_batch(columns, schema=schema))
        self._runs.append(path)


def packed(rows: NDArray[np.int32], counts: NDArray[np.int64], kind: pa.DataType) -> pa.Array:
    """The rows of each value as one binary value, without a copy."""
    offsets = np.concatenate([[0], np.cumsum(counts) * rows.itemsize])
    offsets = offsets.astype(np.int64 if kind == pa.large_binary() else np.int32)
    return pa.Array.from_buffers(kind, len(counts), [None, pa.py_buffer(offsets), pa.py_buffer(rows)])


def order_of(value: Any) -> Any:
    """What values are compared by: NaN, which Python does not order, comes last and equals itself."""
    return (value != value, 0.0 if value != value else value)  # noqa: PLR0124


def _read_run(path: Path) -> Iterator[Sorted]:
    with pa.OSFile(str(path)) as source:
        run = ipc.open_file(source)
        for number in range(run.num_record_batches):
            block = run.get_batch(number)
            rows = np.frombuffer(block["rows"].buffers()[2], np.int32)
            yield Sorted(block["value"], block["count"].to_numpy(), rows)


def _merged(runs: list[Iterator[Sorted]], items: int) -> Iterator[Sorted]:
    """All values up to the least of the runs' last ones, again and again: with each step a block is used up."""
    heads = [(head, run) for run in runs if (head := next(run, None)) is not None]
    while heads:
        last = min(order_of(head.values[-1].as_py()) for head, _ in heads)
        taken, left = [], []
        for head, run in heads:
            stop = _upto(head.values, last)
            if stop:
                taken.append(head.part(0, stop))
            rest: Sorted | None = head.part(stop, len(head)) if stop < len(head) else next(run, None)
            if rest is not None:
                left.append((rest, run))
        yield from _joined(taken, items)
        heads = left


def _upto(values: pa.Array, last: Any) -> int:
    """How many of the values are not beyond `last`."""
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if order_of(values[middle].as_py()) <= last else (low, middle)
    return low


def _joined(parts: list[Sorted], items: int) -> Iterator[Sorted]:
    """The values of all parts in order, each with its rows of all of them."""
    distinct, codes = _coded([part.values for part in parts])
    order = pc.sort_indices(distinct).to_numpy()
    totals = np.zeros(len(distinct), np.int64)
    for part, numbers in zip(parts, codes, strict=True):
        totals[numbers] += part.counts
    many = ~is_few(totals, items)
    few_codes, few_rows = [], []
    for part, numbers in zip(parts, codes, strict=True):
        of_few = np.repeat(~many[numbers], part.counts)
        few_codes.append(np.repeat(numbers, part.counts)[of_few])
        few_rows.append(part.rows[of_few])
    few = _in_order(distinct, order, np.concatenate(few_codes), np.concatenate(few_rows))
    start = 0
    for place in np.flatnonzero(many[order]).tolist():
        if start < place:
            yield few.part(start, place)
        yield _as_bits(int(order[place]), distinct, parts, codes, items)
        start = place + 1
    if start < len(few):
        yield few.part(start, len(few))


def _as_bits(code: int, distinct: pa.Array, parts: list[Sorted], codes: list[NDArray[Any]], items: int) -> Sorted:
    """One of the distinct values with its rows of all parts, put in part by part."""
    bits = no_bits(items)
    for part, numbers in zip(parts, codes, strict=True):
        for at in np.flatnonzero(numbers == code).tolist():
            add_rows(bits, part.part(at, at + 1).rows)
    rows = RowSet(bits, items)
    return Sorted(distinct.slice(code, 1), np.array([rows.count]), np.empty(0, np.int32), rows.bits)


def _coded(values: list[pa.Array]) -> tuple[pa.Array, list[NDArray[Any]]]:
    """The distinct values of all arrays, none of them empty, and the number of each array's values among them."""
    encoded = pa.chunked_array(values).dictionary_encode()
    return encoded.chunk(0).dictionary, [chunk.indices.to_numpy() for chunk in encoded.chunks]


def _in_order(distinct: pa.Array, order: NDArray[Any], codes: NDArray[Any], rows: NDArray[np.int32]) -> Sorted:
    """`codes[i]`: which of the `distinct` values, ascending in this `order`, `rows[i]` has."""
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    keys = (ranks[codes] << ROW_BITS) | rows
    keys.sort()
    keys = keys[np.append(True, keys[1:] != keys[:-1])] if len(keys) else keys
    counts = np.bincount(keys >> ROW_BITS, minlength=len(distinct))
    return Sorted(distinct.take(pa.array(order)), counts, keys.astype(np.int32))  # the lower bits: the rows
