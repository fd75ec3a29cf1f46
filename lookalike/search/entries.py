"""Entries: one state of one changed item, kept as what differs from its sealed row.

Keywords in many languages are most of an item's bytes and shown on its own page only, so they are kept as JSON.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lookalike.contracts.item_state import STATE_COLUMNS, ItemState

PACKED = "keywords"
LISTS = ("category_path", "tags", "synthetic")
MAPS = ("attributes", PACKED)


@dataclass(frozen=True, slots=True)
class Entry:
    """One state of one item. `columns`: those that differ from its sealed row, or all without one; see `packed`."""

    item_id: str
    columns: Mapping[str, Any]
    base_version: int
    column_versions: Mapping[str, int]
    deleted: bool
    changed_at: datetime | None


def tidy(state: ItemState) -> ItemState:
    """The same state with all columns as a sealed row gives them: no null lists or maps, prices as floats."""
    if not state.described:
        return state
    columns = {name: state.columns.get(name) for name in STATE_COLUMNS}
    columns |= {name: list(columns.get(name) or ()) for name in LISTS}
    columns |= {name: dict(columns.get(name) or ()) for name in MAPS}
    price = columns["price"]
    columns["price"] = None if price is None else float(price)
    return ItemState(state.item_id, state.base_version, columns, state.column_versions, state.deleted, state.changed_at)


def entry_of_state(state: ItemState, sealed: Mapping[str, Any]) -> Entry:
    """What is kept of a state; `sealed` are the columns of the item's sealed row, empty without one."""
    columns = {name: value for name, value in state.columns.items() if name not in sealed or value != sealed[name]}
    if PACKED in columns:
        columns[PACKED] = json.dumps(columns[PACKED], ensure_ascii=False, separators=(",", ":")).encode()
    return Entry(
        state.item_id, columns, state.base_version, dict(state.column_versions), state.deleted, state.changed_at
    )


def state_of_entry(entry: Entry, sealed: Mapping[str, Any]) -> ItemState:
    """The other way."""
    columns = {**sealed, **unpacked(entry)}
    return ItemState(entry.item_id, entry.base_version, columns, entry.column_versions, entry.deleted, entry.changed_at)


def unpacked(entry: Entry) -> dict[str, Any]:
    """The entry's columns as plain values."""
    columns = dict(entry.columns)
    if PACKED in columns:
        columns[PACKED] = json.loads(columns[PACKED])
    return columns


def bytes_of(entry: Entry) -> int:
    """Bytes of memory that the entry takes, names of columns left out: all entries share them."""
    kept = (entry, entry.item_id, entry.changed_at)
    columns = sum(_size(value) for value in entry.columns.values())
    versions = sys.getsizeof(entry.column_versions) + 32 * len(entry.column_versions)
    return sum(map(sys.getsizeof, kept)) + sys.getsizeof(entry.columns) + columns + versions


def _size(value: Any) -> int:
    if value is None or isinstance(value, bool):
        return 0
    size = sys.getsizeof(value)
    if isinstance(value, dict):
        return size + sum(_size(key) + _size(each) for key, each in value.items())
    if isinstance(value, list | tuple):
        return size + sum(map(_size, value))
    return size
