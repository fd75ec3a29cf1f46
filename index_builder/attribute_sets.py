"""Attribute sets: the file that answers filters, one value table per field, made from the item columns of an artifact.

All values of all attributes share one table, each value behind the name of its attribute, so that there may be any
number of names; an attribute with numbers in it has a table of these as well. The tables lie one after the other, then
a directory, and its length. Fields are made one after the other: memory holds a run of one field's rows.
"""

import json
import math
import shutil
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import ipc

from index_builder.sorted_rows import RowSorter
from index_builder.value_table import ValueTable, value_batches, value_schema
from lookalike.contracts.errors import CorruptArtifact
from lookalike.contracts.row_set import RowSet
from lookalike.contracts.tables import SILVER
from lookalike.search.filters import ATTRIBUTE, LISTS, NUMBERS, STRINGS, parsed_numbers
from lookalike.storage.atomic import TEMPORARY_PREFIX

SETS_NAME = "attributes.sets"
MAGIC = b"attrsets"
END = struct.Struct("<Q8s")
"""Length of the directory before it, and what says that this is such a file."""
ATTRIBUTES = "attributes"
ALIGNED = 64
COPY_BYTES = 8 * 2**20

Pairs = tuple[pa.Array, NDArray[np.int32]]


def write_sets(items: Path, target: Path) -> None:
    """Write the sets of an Arrow file of item columns. Equal columns give equal bytes."""
    names: Counter[str] = Counter()
    with TemporaryDirectory(dir=target.parent, prefix=TEMPORARY_PREFIX) as scratch, target.open("wb") as sink:
        columns = ipc.open_file(pa.memory_map(str(items))).read_all()
        writer = _Writer(sink, Path(scratch), columns.num_rows)
        for field, column in (STRINGS | LISTS | NUMBERS).items():
            kind = pa.float64() if field in NUMBERS else pa.string()
            writer.add(field, kind, _pairs(items, column, kind))
        texts = writer.add(ATTRIBUTES, pa.string(), _attribute_pairs(items, names))
        for name in sorted(names):
            writer.add(ATTRIBUTE + name, pa.float64(), _number_pairs(texts, name) if texts is not None else ())
        writer.finish(names)


class _Writer:
    """Puts tables into the file, one after the other."""

    def __init__(self, sink: BinaryIO, scratch: Path, items: int) -> None:
        self._sink, self._scratch, self._items = sink, scratch, items
        self._places: dict[str, tuple[int, int]] = {}

    def add(self, field: str, kind: pa.DataType, pairs: Iterable[Pairs]) -> ValueTable | None:
        """The table of these pairs, until the next one is made; None, and nothing written, without any."""
        sorter, schema = RowSorter(self._scratch, self._items), value_schema(kind)
        for values, rows in pairs:
            if len(rows):
                sorter.add(values, rows)
        batches = value_batches(sorter.sorted(), schema, self._items)
        first = next(batches, None)
        if first is None:
            return None
        # A file of its own at first: in an Arrow file places are counted from its beginning.
        path = self._scratch / f"{len(self._places)}.table"
        with pa.OSFile(str(path), "wb") as sink, ipc.new_file(sink, schema) as writer:
            for batch in chain([first], batches):
                writer.write_batch(batch)
        self._sink.write(bytes(-self._sink.tell() % ALIGNED))
        self._places[field] = (self._sink.tell(), path.stat().st_size)
        with path.open("rb") as table:
            shutil.copyfileobj(table, self._sink, COPY_BYTES)
        made = ValueTable(ipc.open_file(pa.memory_map(str(path))).read_all(), self._items)
        path.unlink()  # what is mapped stays until nobody holds it
        return made

    def finish(self, names: Mapping[str, int]) -> None:
        """The directory."""
        directory = {"items": self._items, "tables": self._places, "attributes": dict(sorted(names.items()))}
        encoded = json.dumps(directory).encode()
        self._sink.write(encoded + END.pack(len(encoded), MAGIC))


def _columns(items: Path, column: str) -> Iterator[tuple[int, pa.Array]]:
    """The chunks of one column, each with its first row; nothing else of the file is read."""
    with pa.OSFile(str(items)) as source:
        at = ipc.open_file(source).schema.get_field_index(column)
        if at < 0:  # an index of vectors alone
            return
        file, start = ipc.open_file(source, options=ipc.IpcReadOptions(included_fields=[at])), 0
        for number in range(file.num_record_batches):
            chunk = file.get_batch(number).column(0)
            yield start, chunk
            start += len(chunk)


def _pairs(items: Path, column: str, kind: pa.DataType) -> Iterator[Pairs]:
    """The values of a column, or of its lists, that are there."""
    for start, chunk in _columns(items, column):
        if pa.types.is_list(chunk.type):
            values, rows = pc.list_flatten(chunk), np.asarray(pc.list_parent_indices(chunk))
        else:
            values, rows = chunk, np.arange(len(chunk))
        yield _present(pc.cast(values, kind, safe=False), rows + start)


def _present(values: pa.Array, rows: NDArray[np.int64]) -> Pairs:
    """Without nulls, and of the two zeros of numbers one."""
    if pa.types.is_floating(values.type):
        values = pc.add(values, 0.0)
    return values.drop_null(), rows[np.asarray(values.is_valid())].astype(np.int32)


def _attribute_pairs(items: Path, names: Counter[str]) -> Iterator[Pairs]:
    """Each value behind its attribute's name; of a name that is there twice in a row, the first value. Counts names."""
    for start, chunk in _columns(items, ATTRIBUTES):
        offsets = np.asarray(chunk.offsets)
        rows = np.repeat(np.arange(len(chunk)), np.diff(offsets))
        keys = chunk.keys.slice(offsets[0], len(rows)).dictionary_encode()
        texts = chunk.items.slice(offsets[0], len(rows))
        known, codes = keys.dictionary.to_pylist(), keys.indices.to_numpy()
        names.update(dict(zip(known, np.bincount(codes, minlength=len(known)).tolist(), strict=True)))
        first = np.unique(rows * len(known) + codes, return_index=True)[1]
        behind = pa.array([_behind(name) for name in known], pa.string()).take(pa.array(codes[first]))
        yield _present(pc.binary_join_element_wise(behind, texts.take(pa.array(first)), ""), rows[first] + start)


def _number_pairs(texts: ValueTable, name: str) -> Iterator[Pairs]:
    """The values of an attribute that are numbers."""
    behind = _behind(name)
    for values, counts, rows in texts.pairs(*texts.starting_with(behind)):
        numbers = parsed_numbers(pc.utf8_slice_codeunits(values, len(behind)))
        yield _present(numbers.take(pa.array(np.repeat(np.arange(len(values)), counts))), rows.astype(np.int64))


def _behind(name: str) -> str:
    """What the values of an attribute stand behind. With its length, no name is the beginning of another."""
    return f"{len(name)}:{name}"


class MappedSets:
    """The AttributeSets port over a mapped file."""

    def __init__(self, tables: Mapping[str, ValueTable], attributes: Mapping[str, int], items: int) -> None:
        self._tables, self._attributes, self._items = tables, attributes, items

    @property
    def attributes(self) -> Mapping[str, int]:
        """See the port."""
        return self._attributes

    def having(self, field: str, values: Iterable[str] | Iterable[float]) -> RowSet:
        """See the port."""
        if field.startswith(ATTRIBUTE):
            behind = _behind(field.removeprefix(ATTRIBUTE))
            field, values = ATTRIBUTES, [f"{behind}{value}" for value in values]
        table = self._tables.get(field)
        return RowSet.union([], self._items) if table is None else table.having(values)

    def between(self, field: str, low: float, high: float) -> RowSet:
        """See the port."""
        table = self._tables.get(field)
        return RowSet.union([], self._items) if table is None else table.between(low, high)

    def has_numbers(self, field: str) -> bool:
        """See the port."""
        return field in self._tables

    def counts(self, field: str) -> tuple[pa.Array, NDArray[np.int64]]:
        """See the port."""
        table = self._tables.get(field)
        if table is None:
            return pa.array([], pa.string()), np.empty(0, np.int64)
        return table.values.combine_chunks(), table.counts.to_numpy().astype(np.int64)

    def bounds(self, field: str) -> tuple[float | None, float | None]:
        """See the port."""
        table = self._tables.get(field)
        start, stop = (0, 0) if table is None else table.span(-math.inf, math.inf)
        if table is None or start == stop:
            return None, None
        low, high = table.values[start].as_py(), table.values[stop - 1].as_py()
        whole = pa.types.is_integer(SILVER.schema.field(NUMBERS[field]).type)
        return (int(low), int(high)) if whole else (low, high)


def open_sets(path: Path, items: int) -> MappedSets:
    """Map the file. Raises CorruptArtifact when it is not of so many items, or not of this kind at all."""
    try:
        source = pa.memory_map(str(path))
        directory = _read_directory(source)
        if directory["items"] != items:
            raise CorruptArtifact(
                f"{path} is of {directory['items']:,} items, not of {items:,}. Build the index again."
            )
        tables = {}
        for field, (start, length) in directory["tables"].items():
            table = ipc.open_file(pa.BufferReader(_at(source, start, length))).read_all()
            tables[field] = ValueTable(table, items)
        return MappedSets(tables, directory["attributes"], items)
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        struct.error,
        pa.ArrowException,
        OSError,
    ) as error:
        raise CorruptArtifact(f"{path} cannot be read: {error}. Build the index again.") from error


def _read_directory(source: pa.MemoryMappedFile) -> Any:
    end = source.size() - END.size
    length, magic = END.unpack(_at(source, end, END.size))
    if magic != MAGIC:
        raise ValueError("it does not end as a file of attribute sets does")
    return json.loads(_at(source, end - length, length).to_pybytes())


def _at(source: pa.MemoryMappedFile, start: int, length: int) -> pa.Buffer:
    """These bytes as they are mapped: `read_at` would copy them."""
    source.seek(start)
    return source.read_buffer(length)
