"""Allowed lists: which inverted lists are probed for a query when only some rows may be found.

At least as many allowed rows are to be seen as a search without a filter sees rows, wherever they lie: a filter that is
spread evenly makes a search deeper by the inverse of its share; of one whose rows lie together (a brand, a category),
lists without any are passed over. Where fewer rows near the query are allowed than elsewhere, the nearest allowed ones
are far from it and their lists are ordered less surely: more are seen, and of rows that lie together more cost little.
"""

import math
import threading
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import faiss
import numpy as np
from numpy.typing import NDArray

from index_builder.list_centres import Lists
from lookalike.contracts.encoder import Vectors
from lookalike.contracts.row_set import RowSet

MARGIN = 3.0
"""So many times the rows of a search without a filter are seen."""
AWAY = 8.0
"""So many times more at most are seen where a query lies away from the allowed rows, or these lie together."""
COUNTED_ROWS = 500_000
"""Of larger sets than this and than one row in COUNTED_SHARE, so many rows are counted, which takes some 5 ms."""
COUNTED_SHARE = 32
NOT_NONE = 1e-3
"""Rows of a list of which none was among those counted: it may still hold some, and is not passed over."""

Counts = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class _Spread:
    """`counts` of allowed rows by list. `together`: their density where they lie by their density over all lists."""

    counts: Counts
    together: float


class NearestLists(Protocol):
    """Who finds the lists nearest to queries: see ScannedCentres."""

    def nearest(self, queries: Vectors, count: int) -> Lists: ...


class AllowedLists:
    """Over the lists of one IVF index around `centres`, whose rows are 0..items-1. Thread-safe."""

    def __init__(self, index: Any, centres: NearestLists, items: int) -> None:
        self._centres = centres
        self._sizes = np.array([index.invlists.list_size(number) for number in range(index.nlist)])
        self._items = items
        self._list_of = np.zeros(items, np.min_scalar_type(index.nlist - 1))
        for number, size in enumerate(self._sizes.tolist()):
            if size:
                self._list_of[faiss.rev_swig_ptr(index.invlists.get_ids(number), size)] = number
        self._lock = threading.Lock()
        self._kept: WeakKeyDictionary[RowSet, _Spread] = WeakKeyDictionary()

    def chosen(self, queries: Vectors, allowed: RowSet, nprobe: int) -> Lists:
        """Lists to probe per query, nearest first, shape (q, most), -1 beyond the last.

        `nprobe`: what a search without a filter would probe.
        """
        spread = self._spread(allowed) if allowed.like is None else self._spread_like(allowed, allowed.like)
        counts = np.append(spread.counts, 0)  # the last one for list -1
        depth = math.ceil(2 * MARGIN * nprobe * self._items / max(allowed.count, 1))
        lists = self._centres.nearest(queries, depth)
        away = self._away(lists[:, :nprobe], counts, allowed.count / self._items)
        wanted = MARGIN * np.clip(np.maximum(away, spread.together), 1, AWAY) * nprobe * self._sizes.mean()
        if lists.shape[1] < len(self._sizes) and (counts[lists].sum(axis=1) < wanted).any():
            lists = self._centres.nearest(queries, len(self._sizes))
        there = counts[lists]
        taken = (there > 0) & (np.cumsum(there, axis=1) - there < wanted[:, None])
        most = int(taken.sum(axis=1).max(initial=0))
        front = np.argsort(~taken, axis=1, kind="stable")[:, :most]
        kept = np.take_along_axis(taken, front, axis=1)
        return np.where(kept, np.take_along_axis(lists, front, axis=1), -1)

    def _away(self, near: Lists, counts: Counts, share: float) -> NDArray[np.float64]:
        """By how much fewer rows of the lists nearest to each query are allowed than of all."""
        sizes = np.append(self._sizes, 0)[near].sum(axis=1)
        here = counts[near].sum(axis=1) / np.maximum(sizes, 1)
        away: NDArray[np.float64] = share / np.maximum(here, 1e-9)
        return away

    def _spread_like(self, allowed: RowSet, like: RowSet) -> _Spread:
        """That of the set it is like, where a list of a row that was put in counts as having one."""
        spread = self._spread(like)
        put_in = np.bincount(self._list_of[allowed.added], minlength=len(self._sizes))
        return _Spread(spread.counts + put_in, spread.together)

    def _spread(self, allowed: RowSet) -> _Spread:
        """From some of the rows where there are many; then no list is taken to hold none."""
        with self._lock:
            known = self._kept.get(allowed)
        if known is not None:
            return known
        all_of_them = allowed.count <= max(COUNTED_ROWS, self._items // COUNTED_SHARE)
        some = allowed.some(allowed.count if all_of_them else COUNTED_ROWS)
        found = np.bincount(self._list_of[some], minlength=len(self._sizes))
        counts: Counts = found * (allowed.count / max(len(some), 1)) + (0.0 if all_of_them else NOT_NONE)
        density = (counts**2 / np.maximum(self._sizes, 1)).sum() / max(allowed.count, 1)
        spread = _Spread(counts, float(density * self._items / max(allowed.count, 1)))
        with self._lock:
            self._kept[allowed] = spread
        return spread
