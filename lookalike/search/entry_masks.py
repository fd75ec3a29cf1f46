"""Filters over changed items: one boolean per entry, computed once, when an entry is first asked about.

An entry whose column is that of its sealed row passes as the row does; only the others are evaluated, by the same code
as sealed rows. Entries never change, so a mask only ever grows at its end.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lookalike.contracts.query import Filter
from lookalike.contracts.sealed_index import Rows
from lookalike.contracts.tables import SILVER
from lookalike.search.entries import Entry
from lookalike.search.filters import Mask, Passed, PassedRows, column_of, evaluate

KEPT_FILTERS = 128


@dataclass(frozen=True)
class _Known:
    """Of the first entries: whether they pass by their own value, and whether they have one."""

    passes: Mask
    own: Mask
    numeric: bool


EMPTY = _Known(np.zeros(0, dtype=bool), np.zeros(0, dtype=bool), False)


class EntryMasks:
    """Masks over one growing list of entries. Thread-safe; the lock is held for a look-up only."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries
        self._lock = threading.Lock()
        self._kept: OrderedDict[Filter, _Known] = OrderedDict()

    @property
    def bytes(self) -> int:
        """Of all masks."""
        with self._lock:
            return sum(2 * known.passes.nbytes for known in self._kept.values())

    def passed(self, each: Filter, rows: Rows, sealed: PassedRows, start: int = 0) -> Passed:
        """Which of the first len(rows) entries pass, from entry `start` on; `rows`: their sealed rows, -1 without one.

        Raises BadQuery when the filter does not suit its column.
        """
        with self._lock:
            known = self._kept.get(each, EMPTY)
        if len(known.passes) < len(rows):
            known = self._extended(each, known, len(rows))
            with self._lock:
                # Of two threads that did this, the one that saw more entries leaves the longer mask.
                if len(known.passes) > len(self._kept.get(each, EMPTY).passes):
                    self._kept[each] = known
                self._kept.move_to_end(each)
                while len(self._kept) > KEPT_FILTERS:
                    self._kept.popitem(last=False)
        passes, own = known.passes[start : len(rows)], known.own[start : len(rows)]
        return Passed(np.where(own, passes, sealed.rows.has(rows[start:])), sealed.numeric or known.numeric)

    def _extended(self, each: Filter, known: _Known, count: int) -> _Known:
        """`known` for the first `count` entries."""
        name = column_of(each)
        fresh = self._entries[len(known.passes) : count]
        own = np.array([name in entry.columns for entry in fresh], dtype=bool)
        values = [_value(entry.columns[name]) for entry in fresh if name in entry.columns]
        passes = np.zeros(len(fresh), dtype=bool)
        evaluated = evaluate(each, [pa.array(values, SILVER.schema.field(name).type)])
        passes[own] = evaluated.mask
        # Ranges over text report no numbers; everything else counts as numeric.
        return _Known(
            np.concatenate([known.passes, passes]),
            np.concatenate([known.own, own]),
            known.numeric or (evaluated.numeric and bool(values)),
        )


def _value(value: object) -> object:
    return list(value.items()) if isinstance(value, dict) else value
