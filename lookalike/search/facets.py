"""Facets: which values there are to filter by, how many items have each, and the ranges of the numbers.

How many items have a value is known to the artifact, or counted once over its columns; what changed since is kept as
differences, so that nothing is counted again.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookalike.contracts.attribute_sets import AttributeSets

COUNTED = {"brand": "brand", "category": "category_path", "licence": "licence", "tags": "tags"}
RANGES = ("price", "stock")
ATTRIBUTES = "attributes"
MOST_VALUES = 200
"""Most frequent values given per field; any other value can still be filtered by."""
CHANGE_BYTES = 115
"""Of the key of one changed count."""

Counts = dict[tuple[str, str], int]
Bounds = tuple[float | None, float | None]


class FacetChanges:
    """How counts and ranges differ from the sealed ones. One writer; `counts` and `ranges` change by whole commits."""

    def __init__(self) -> None:
        self.counts: Counts = {}
        self.ranges: dict[str, Bounds] = dict.fromkeys(RANGES, (None, None))
        self._pending: Counts = {}
        self._pending_ranges = self.ranges

    @property
    def bytes(self) -> int:
        """Estimate of what this takes in memory."""
        return sys.getsizeof(self.counts) + CHANGE_BYTES * len(self.counts)

    def note(self, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> None:
        """Columns of an item before and after a change, None where it was not found."""
        for columns, sign in ((before, -1), (after, 1)):
            for key in _values(columns) if columns is not None else ():
                known = self._pending[key] if key in self._pending else self.counts.get(key, 0)
                self._pending[key] = known + sign
        if after is not None:
            self._pending_ranges = {
                field: _widened(bounds, after.get(field)) for field, bounds in self._pending_ranges.items()
            }

    def commit(self) -> None:
        """Show what was noted. One update of the table: readers see all of it or nothing."""
        self.counts.update(self._pending)
        self._pending = {}
        self.ranges = self._pending_ranges

    def forget_unchanged(self) -> None:
        """Drop counts that are again what they were when sealed. Readers keep the table that they have."""
        self.counts = {key: delta for key, delta in self.counts.items() if delta}


class SealedFacets:
    """Counts over sealed columns: read or taken at construction, kept sorted, never changed."""

    def __init__(self, columns: pa.Table, sets: AttributeSets | None = None) -> None:
        """`sets` of these columns; None in older artifacts: then everything is counted here."""
        if sets is None:
            self._counted = {field: _count(columns[name]) for field, name in COUNTED.items()}
            keys = pa.chunked_array([_keys(chunk) for chunk in columns[ATTRIBUTES].chunks], pa.string())
            self._attributes = _count(keys)
        else:
            self._counted = {field: _in_order(*sets.counts(field)) for field in COUNTED}
            names = sets.attributes
            self._attributes = _in_order(pa.array(list(names), pa.string()), np.array(list(names.values()), np.int64))
        self._ranges: dict[str, Bounds] = {
            field: sets.bounds(field) if sets is not None else tuple(pc.min_max(columns[field]).as_py().values())
            for field in RANGES
        }

    def facets(self, changes: FacetChanges | None = None) -> dict[str, Any]:
        """Counts by value, most frequent first, and smallest and largest of each number (None without values).

        With `changes`, counts are exact. Ranges are those of all values since the release: a change can widen
        them, and a value that is gone does not narrow them before the next release.
        """
        deltas: dict[str, dict[str, int]] = {field: {} for field in (*COUNTED, ATTRIBUTES)}
        ranges: dict[str, Bounds] = {}
        if changes is not None:
            ranges = changes.ranges
            for (field, value), delta in changes.counts.copy().items():
                if delta:
                    deltas[field][value] = delta
        found: dict[str, Any] = {
            field: [
                {"value": value, "count": count} for value, count in counted.most_frequent(deltas[field], MOST_VALUES)
            ]
            for field, counted in self._counted.items()
        }
        for field, sealed in self._ranges.items():
            low, high = _widened(sealed, *ranges.get(field, ()))
            found[field] = {"min": low, "max": high}
        names = self._attributes.most_frequent(deltas[ATTRIBUTES], None)
        found[ATTRIBUTES] = sorted(name for name, _ in names)
        return found


@dataclass(frozen=True)
class _Counted:
    """`counts` of `values`; `frequent` holds their positions, most frequent first, equal ones by value."""

    values: pa.Array
    counts: NDArray[np.int64]
    frequent: NDArray[np.int64]

    def most_frequent(self, deltas: Mapping[str, int], most: int | None) -> list[tuple[str, int]]:
        """Values and corrected counts, most frequent first; those that nothing has any more are left out."""
        most = len(self.values) + len(deltas) if most is None else most
        found: list[tuple[str, int]] = []
        for at in self.frequent.tolist():
            if len(found) == most:
                break
            value = self.values[at].as_py()
            if value not in deltas:
                found.append((value, int(self.counts[at])))
        places = pc.index_in(pa.array(list(deltas), pa.string()), value_set=self.values).to_pylist() if deltas else ()
        for (value, delta), at in zip(deltas.items(), places, strict=True):
            count = delta + (0 if at is None else int(self.counts[at]))
            if count > 0:
                found.append((value, count))
        return sorted(found, key=lambda each: (-each[1], each[0]))[:most]


def _count(values: pa.ChunkedArray) -> _Counted:
    """A value that a list holds twice counts once."""
    if pa.types.is_list(values.type):
        values = pa.chunked_array([_once(chunk) for chunk in values.chunks], values.type.value_type)
    counted = pc.value_counts(values.drop_null())
    return _in_order(counted.field("values"), counted.field("counts").to_numpy(zero_copy_only=False))


def _in_order(values: pa.Array, counts: NDArray[np.int64]) -> _Counted:
    order = pc.sort_indices(
        pa.table({"count": counts, "value": values}), sort_keys=[("count", "descending"), ("value", "ascending")]
    )
    return _Counted(values, counts, order.to_numpy().astype(np.int64))


def _once(lists: pa.ListArray) -> pa.Array:
    """The elements of all lists, those that one list holds again left out."""
    elements = pc.list_flatten(lists)
    codes = pc.fill_null(elements.dictionary_encode().indices, -1).to_numpy().astype(np.int64)
    pairs = np.asarray(pc.list_parent_indices(lists)) * (len(elements) + 1) + codes
    return elements.take(pa.array(np.sort(np.unique(pairs, return_index=True)[1])))


def _keys(maps: pa.MapArray) -> pa.Array:
    """All keys; `keys` alone gives those of the whole array that a slice was cut from."""
    offsets = maps.offsets
    return maps.keys.slice(offsets[0].as_py(), offsets[-1].as_py() - offsets[0].as_py())


def _values(columns: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for field, name in COUNTED.items():
        value = columns.get(name)
        several: Iterable[str] = set(value) if isinstance(value, list) else () if value is None else (value,)
        yield from ((field, each) for each in several)
    yield from ((ATTRIBUTES, name) for name in columns.get(ATTRIBUTES) or ())


def _widened(bounds: Bounds, *values: float | None) -> Bounds:
    known = [value for value in (*bounds, *values) if value is not None]
    return min(known, default=None), max(known, default=None)
