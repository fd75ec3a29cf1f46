"""Merged: one release as one query sees it, its sealed index and what changed since as one.

Rows 0..n-1 are sealed, n+e is entry e of the overlay view. Without changes every call goes straight to the index.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lookalike.contracts.encoder import Vectors
from lookalike.contracts.query import Filter
from lookalike.contracts.sealed_index import Rows, SealedIndex
from lookalike.search.changed_items import NONE, OverlayView
from lookalike.search.entries import unpacked
from lookalike.search.filters import FilterMasks, Mask, require_numbers
from lookalike.search.fusion import cosines
from lookalike.search.products import DETAIL_ONLY, ProductReader, time_text

ROUNDS = 3
"""So often is the index asked for more before the hidden rows are ruled out by a mask over all rows."""
MANY_HIDDEN = 0.25
"""Where more of the sealed rows than this are hidden, a mask of the others is quicker than asking for more."""

SearchPlan = Literal["index", "exact"]


@dataclass(frozen=True)
class Allowed:
    """What may be found: a mask of sealed rows, hidden ones off, and one of the view's entries; how many in all."""

    sealed: Mask
    by_entry: Mask
    count: int


class Merged:
    """One immutable state of a release. Cheap to make: one for each query."""

    def __init__(
        self,
        index: SealedIndex,
        masks: FilterMasks,
        products: ProductReader,
        view: OverlayView | None = None,
        has_attribute: Callable[[str], bool] = lambda name: False,
        first_seen: int | None = None,
    ) -> None:
        """`view` None or empty: the sealed release alone. `first_seen`: vectors of later commits are left out."""
        self._index, self._masks, self._products = index, masks, products
        self._view = view if view is not None and view.count else None
        self._has_attribute, self._first_seen = has_attribute, first_seen

    @property
    def items(self) -> int:
        """How many items can be found."""
        sealed = len(self._products)
        return sealed if self._view is None else sealed - self._view.hidden + self._view.fresh

    def mask(self, filters: Iterable[Filter]) -> Allowed | None:
        """What passes all filters; None when there are none. Raises BadQuery."""
        filters = tuple(filters)
        if not filters:
            return None
        if self._view is None:
            sealed = self._masks.mask(filters)
            assert sealed is not None
            return Allowed(sealed, np.zeros(0, dtype=bool), int(np.count_nonzero(sealed)))
        return self._corrected(filters, self._view)

    def nearest(self, query: Vectors, k: int, allowed: Allowed | None) -> tuple[Rows, SearchPlan]:
        """The best k rows for a unit vector, shape (dim,), in no certain order; fewer only where fewer are allowed."""
        if self._view is None:
            return self._ask(query, k, None if allowed is None else allowed.sealed)
        if allowed is not None:
            sealed, plan = self._ask(query, k, allowed.sealed)
        else:
            sealed, plan = self._not_hidden(query, k, self._view)
        fresh = self._nearest_fresh(query, k, allowed, self._view) + len(self._products)
        rows = np.concatenate([sealed, fresh])
        return (self._best(rows, query, k) if len(rows) > k else rows), plan

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

    def _best(self, rows: Rows, query: Vectors, k: int) -> Rows:
        """The best k of these rows by refined score, equal ones by item id."""
        scores = cosines(self.vectors(rows), query[None])[:, 0]
        least = np.sort(scores)[-k]
        above, tied = rows[scores > least], rows[scores == least]
        places = k - len(above)
        if len(tied) > places:
            tied = np.array(sorted(tied.tolist(), key=self.item_id)[:places])
        return np.concatenate([above, tied])

    def _entry_at(self, row: int, view: OverlayView) -> int:
        return view.entry_of(row) if row < len(self._products) else row - len(self._products)

    def _ask(self, query: Vectors, k: int, allowed: Mask | None) -> tuple[Rows, SearchPlan]:
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
        allowed = np.ones(items, dtype=bool)
        allowed[view.live.touched_rows[~view.live.patched]] = False
        return self._ask(query, k, allowed)

    def _nearest_fresh(self, query: Vectors, k: int, allowed: Allowed | None, view: OverlayView) -> Rows:
        """Entries with the k best own vectors, and those as good as the last; every one is compared."""
        live = view.live
        keep = live.entry_at != NONE
        if allowed is not None:
            keep[keep] = allowed.by_entry[live.entry_at[keep]]
        if self._first_seen is not None:
            keep &= view.slot_born <= self._first_seen
        return live.entry_at[view.fresh_vectors.nearest(query, k, keep)]

    def _corrected(self, filters: tuple[Filter, ...], view: OverlayView) -> Allowed:
        """Masks of sealed rows as they were sealed, put right where a row or an item has changed."""
        live, rows = view.live, view.rows
        sealed: Mask | None = None
        entries = np.ones(view.count, dtype=bool)
        for each in filters:
            as_sealed = self._masks.passed(each, self._has_attribute)
            changed = view.masks.passed(each, rows, as_sealed)
            require_numbers(each, changed.numeric)
            sealed = as_sealed.mask if sealed is None else sealed & as_sealed.mask
            entries &= changed.mask
        assert sealed is not None
        if len(live.touched_rows):
            sealed = sealed.copy()
            sealed[live.touched_rows] = entries[live.touched_entries] & live.patched
        fresh = np.count_nonzero(entries[live.slot_entries])
        return Allowed(sealed, entries, int(np.count_nonzero(sealed) + fresh))
