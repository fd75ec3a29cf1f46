"""Corrected rows: what passes filters in one view, kept, so that the next view puts right only what is new in it.

Of a million changed items a view that follows another has a few dozen new ones; all else about it is known.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass

from lookalike.contracts.query import Filter
from lookalike.contracts.row_set import RowSet
from lookalike.search.filters import Mask

KEPT_BYTES = 128 * 2**20
VERSIONS = 2
"""Kept of each: a search of a view may end after one of the view that follows it."""


@dataclass(frozen=True)
class Corrected:
    """`sealed`: rows of the release that pass, without hidden ones. `entries`: which entries of the view pass."""

    sealed: RowSet
    entries: Mask

    @property
    def bytes(self) -> int:
        return int(self.sealed.data.nbytes + self.entries.nbytes)


class CorrectedRows:
    """Of one growing list of entries, by filters. Views of it are alike when they have as many. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[Filter, ...], tuple[Corrected, ...]] = OrderedDict()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """Of all that is kept."""
        return self._bytes

    def before(self, filters: tuple[Filter, ...], count: int) -> Corrected | None:
        """What passed in the newest known view of at most `count` entries."""
        with self._lock:
            known = [each for each in self._kept.get(filters, ()) if len(each.entries) <= count]
        return max(known, key=lambda each: len(each.entries), default=None)

    def keep(self, filters: tuple[Filter, ...], corrected: Corrected) -> None:
        """Know it from now on, and the newest others of these filters."""
        with self._lock:
            versions = sorted((*self._kept.pop(filters, ()), corrected), key=lambda each: -len(each.entries))
            self._kept[filters] = tuple(versions[:VERSIONS])
            self._bytes += corrected.bytes - sum(each.bytes for each in versions[VERSIONS:])
            while len(self._kept) > 1 and self._bytes > KEPT_BYTES:
                self._bytes -= sum(each.bytes for each in self._kept.popitem(last=False)[1])
