"""Merged: one release as one query sees it, its sealed index and what changed since as one.

Rows 0..n-1 are sealed, n+e is entry e of the overlay view. Without changes every call goes straight to the index.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import Any, Literal

import numpy as np

from lookalike.contracts.encoder import Vectors
from lookalike.contracts.query import Filter
from lookalike.contracts.row_set import RowSet
from lookalike.contracts.sealed_index import Rows, SealedIndex
from lookalike.search.changed_items import NONE, OverlayView
from lookalike.search.corrected import Corrected
from lookalike.search.entries import unpacked
from lookalike.search.filters import FilterRows, Mask, require_numbers
from lookalike.search.fusion import cosines
from lookalike.search.products import DETAIL_ONLY, ProductReader, time_text

ROUNDS = 3
"""So often is the index asked for more before the hidden rows are ruled out by a mask over all rows."""
MANY_HIDDEN = 0.25
"""Where more of the sealed rows than this are hidden, a mask of the others is quicker than asking for more."""

SearchPlan = Literal["index", "exact"]


@dataclass(frozen=True)
class Allowed:
    """What may be found: sealed rows without hidden ones, a mask of the view's entries, and how many in all."""

    sealed: RowSet
    by_entry: Mask
    count: int


@dataclass(frozen=True)
class Nearest:
    """Rows, their vectors, shape (len(rows), dim), and how they were found."""

    rows: Rows
    vectors: Vectors
    plan: SearchPlan


class Merged:
    """One immutable state of a release. Cheap to make: one for each query."""

    def __init__(
        self,
        index: SealedIndex,
        filters: FilterRows,
        products: ProductReader,
        view: OverlayView | None = None,
        has_attribute: Callable[[str], bool] = lambda name: False,
        first_seen: int | None = None,
    ) -> None:
        """`view` None or empty: the sealed release alone. `first_seen`: vectors of later commits are left out."""
        self._index, self._filters, self._products = index, filters, products
        self._view = view if view is not None and view.count else None
        self._has_attribute, self._first_seen = has_attribute, first_seen

    @property
    def items(self) -> int:
        """How many items can be found."""
        sealed = len(self._products)
        return sealed if self._view is None else sealed - self._view.hidden + self._view.fresh

    def allowed(self, filters: Iterable[Filter]) -> Allowed | None:
        """What passes all filters; None when there are none. Raises BadQuery."""
        filters = tuple(filters)
        if not filters:
            return None
        if self._view is None:
            sealed = self._filters.rows(filters)
            assert sealed is not None
            return Allowed(sealed, np.zeros(0, dtype=bool), sealed.count)
        corrected, entry_at = self._corrected(filters, self._view), self._view.entry_at
        fresh = np.count_nonzero(corrected.entries[entry_at[entry_at != NONE]])
        return Allowed(corrected.sealed, corrected.entries, corrected.sealed.count + int(fresh))

    def nearest(self, query: Vectors, k: int, allowed: Allowed | None) -> Nearest:
        """The best k rows for a unit vector, shape (dim,), in no certain order; fewer only where fewer are allowed."""
        if self._view is None:
            return self._with_vectors(*self._ask(query, k, None if allowed is None else allowed.sealed))
        if allowed is not None:
            sealed, plan = self._ask(query, k, allowed.sealed)
        else:
            sealed, plan = self._not_hidden(query, k, self._view)
        fresh = self._nearest_fresh(query, k, allowed, self._view) + len(self._products)
        found = self._with_vectors(np.concatenate([sealed, fresh]), plan)
        return self._best(found, query, k) if len(found.rows) > k else found

    def _with_vectors(self, rows: Rows, plan: SearchPlan) -> Nearest:
        return Nearest(rows, self.vectors(rows), plan)

    def vectors(self, rows: Rows) -> Vectors:
        """Vectors of the rows, shape (len(rows), dim), float32."""
        own = rows >= len(self._products)
        if self._view is None or not own.any():
            return self._index.vectors(rows)
        found = np.empty((len(rows), self._index.manifest.space.dim), np.float32)
        found[~own] = self._index.vectors(rows[~own])
        found[own] = self._view.entry_vectors(rows[own] - len(self._products))
        return found

    def row_of(self, item_id: str) -> int:
        """Row of the item, -1 where none can be found under this id."""
        row = int(self._index.rows_of([item_id])[0])
        at = NONE if self._view is None else self._view.entry_of(row if row >= 0 else item_id)
        if self._view is None or at == NONE:
            return row
        if not self._view.is_shown(at):
            return NONE
        return row if self._view.slot_of(at) == NONE else len(self._products) + at

    def item_id(self, row: int) -> str:
        """Id of the row's item."""
        sealed = len(self._products)
        if self._view is not None and row >= sealed:
            return self._view.entry(row - sealed).item_id
        return self._products.item_id(row)

    def is_fresh(self, row: int) -> bool:
        """Whether the item changed since the release was built."""
        return self._view is not None and self._entry_at(row, self._view) != NONE

    def came_later(self, row: int) -> bool:
        """Whether the row's vector is newer than `first_seen`."""
        sealed = len(self._products)
        if self._view is None or self._first_seen is None or row < sealed:
            return False
        return int(self._view.slot_born[self._view.slot_of(row - sealed)]) > self._first_seen

    def image_path(self, row: int) -> str:
        """Where the item's picture lies."""
        path: str = self.product(row)["image_path"]
        return path

    def product(self, row: int) -> dict[str, Any]:
        """All columns of the item as plain Python, ready for JSON."""
        return self._with_changes(row, self._products.product, frozenset())

    def summary(self, row: int) -> dict[str, Any]:
        """The columns that a hit shows."""
        return self._with_changes(row, self._products.summary, DETAIL_ONLY)

    def _with_changes(
        self, row: int, read: Callable[[int], dict[str, Any]], left_out: frozenset[str]
    ) -> dict[str, Any]:
        at = NONE if self._view is None else self._entry_at(row, self._view)
        if self._view is None or at == NONE:
            return read(row)
        entry, sealed = self._view.entry(at), self._view.row_of(at)
        known: dict[str, Any] = dict.fromkeys(self._products.names) if sealed == NONE else read(sealed)
        versions = {
            "item_id": entry.item_id,
            "version": max(entry.base_version, *entry.column_versions.values(), NONE),
            "base_version": entry.base_version,
            "column_versions": dict(entry.column_versions),
            "changed_at": time_text(entry.changed_at),
        }
        known |= {**(entry.columns if left_out else unpacked(entry)), **versions}
        return {name: known[name] for name in self._products.names if name not in left_out}

    def _best(self, found: Nearest, query: Vectors, k: int) -> Nearest:
        """The best k of these rows by refined score, equal ones by item id."""
        scores = cosines(found.vectors, query[None])[:, 0]
        least = np.sort(scores)[-k]
        above, tied = np.flatnonzero(scores > least), np.flatnonzero(scores == least)
        places = k - len(above)
        if len(tied) > places:
            tied = np.array(sorted(tied.tolist(), key=lambda at: self.item_id(int(found.rows[at])))[:places])
        best = np.concatenate([above, tied])
        return Nearest(found.rows[best], found.vectors[best], found.plan)

    def _entry_at(self, row: int, view: OverlayView) -> int:
        return view.entry_of(row) if row < len(self._products) else row - len(self._products)

    def _ask(self, query: Vectors, k: int, allowed: RowSet | None) -> tuple[Rows, SearchPlan]:
        _, rows, plan = self._index.planned_search(query[None], k, allowed)
        return rows[0][rows[0] >= 0], plan

    def _not_hidden(self, query: Vectors, k: int, view: OverlayView) -> tuple[Rows, SearchPlan]:
        """Best k sealed rows that are not hidden, without a mask over all rows in any but the worst case."""
        if not view.hidden:
            return self._ask(query, k, None)
        # The same first depth whatever is hidden: an approximate index asked for more may order its answer otherwise.
        items, wanted = len(self._products), 2 * k
        for _ in range(ROUNDS if view.hidden < MANY_HIDDEN * items else 0):
            if 2 * wanted > items:
                break
            rows, plan = self._ask(query, wanted, None)
            found = rows[~view.hides(rows)]
            if len(found) >= k or len(rows) < wanted:
                return found[:k], plan
            wanted *= 2
        return self._ask(query, k, self._corrected((), view).sealed)

    def _nearest_fresh(self, query: Vectors, k: int, allowed: Allowed | None, view: OverlayView) -> Rows:
        """Entries with the k best own vectors, and those as good as the last; every one is compared."""
        keep = view.entry_at != NONE
        if allowed is not None:
            keep[keep] = allowed.by_entry[view.entry_at[keep]]
        if self._first_seen is not None:
            keep &= view.slot_born <= self._first_seen
        return view.entry_at[view.fresh_vectors.nearest(query, k, keep)]

    def _corrected(self, filters: tuple[Filter, ...], view: OverlayView) -> Corrected:
        """What passes: rows as they were sealed, put right where a row or an item has changed since they were last."""
        as_sealed = [self._filters.passed(each, self._has_attribute) for each in filters]
        known = view.corrected.before(filters, view.count)
        start = 0 if known is None else len(known.entries)
        if known is not None and start == view.count:
            return known
        entries = np.ones(view.count - start, dtype=bool)
        for each, sealed in zip(filters, as_sealed, strict=True):
            passed = view.masks.passed(each, view.rows, sealed, start)
            require_numbers(each, passed.numeric)
            entries &= passed.mask
        if known is None:
            every = RowSet.every(len(self._products)) if not filters else None
            known = Corrected(every or reduce(and_, (each.rows for each in as_sealed)), np.zeros(0, dtype=bool))
        rows, changed, found = view.of_sealed_rows(start)
        corrected = Corrected(
            known.sealed.changed(rows, found & entries[changed - start]) if len(rows) else known.sealed,
            np.concatenate([known.entries, entries]),
        )
        view.corrected.keep(filters, corrected)
        return corrected
