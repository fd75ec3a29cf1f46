"""Overlay: what changed since a release was sealed, in memory, so that searches answer with it at once.

One thread applies updates, a group at a time; any number of threads read views, each an immutable state as of the end
of one group, and never wait. Every item is merged by its registers, so the order of updates and repeats do not matter.
"""

import logging
import secrets
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

import numpy as np

from lookalike.contracts.change import ChangeKind
from lookalike.contracts.encoder import Vectors
from lookalike.contracts.item_state import UNSEEN, ItemState, state_of_row, unknown_item
from lookalike.contracts.sealed_index import SealedIndex
from lookalike.contracts.vector_update import VectorUpdate
from lookalike.search.changed_items import NONE, ChangedItems, Key, OverlayView
from lookalike.search.entries import PACKED, entry_of_state, state_of_entry, tidy
from lookalike.search.facets import FacetChanges
from lookalike.search.products import ProductReader

log = logging.getLogger(__name__)

NORM_TOLERANCE = 1e-3
LEAST_DEAD = 1_024
"""Fewer dead entries or slots are not worth a copy of the living."""
MANY_DEAD_SLOTS = 0.5
"""Of the living: every search passes over dead slots too."""
ENTRY_BYTES, ITEM_BYTES = 80, 32
"""Of the numbers and places of an entry in the lists, and of an item in the table beside its own slot there."""


class Effect(StrEnum):
    """What an update changed for those who search."""

    SEARCHABLE = "searchable"  # found now, and was not before, or not by this picture
    PATCHED = "patched"  # found by the same vector, with other columns
    GONE = "gone"  # was found, and is deleted
    UNPLACED = "unplaced"  # not found: its picture's vector is not known
    UNCHANGED = "unchanged"  # nothing: repeated, overtaken, or of an item that is deleted anyway


@dataclass(frozen=True)
class Applied:
    """One update and its effect; `kind` and `event_time` are the update's."""

    item_id: str
    kind: ChangeKind | None
    event_time: datetime | None
    effect: Effect


@dataclass(frozen=True)
class OverlayStats:
    """`touched` items in memory: `slots` found by a vector of their own, `patched` sealed rows with other columns.

    `hidden` sealed rows are not found, or by a newer picture; `unplaced` items lack a vector. `bytes` is an estimate.
    """

    touched: int
    slots: int
    patched: int
    hidden: int
    unplaced: int
    refused_vectors: int
    bytes: int
    budget_bytes: int

    @property
    def over_budget(self) -> bool:
        """Everything still works; a new release is due."""
        return self.bytes > self.budget_bytes


class Overlay:
    """The changes since one sealed index was built. `apply` belongs to one thread; all else is free for all."""

    def __init__(self, index: SealedIndex, space: str, budget_bytes: int) -> None:
        """`space`: fingerprint whose vectors are taken. Raises SpaceMismatch when it is not the index's."""
        index.manifest.space.require(space, "the overlay")
        self._index, self._space, self._budget = index, space, budget_bytes
        self._products = ProductReader(index.columns)
        self._items = ChangedItems(index.manifest.space.dim, index.block)
        self._id = secrets.token_hex(4)
        self._commit = 0
        self._dead_slots = self._refused = 0
        self._counts = {"slots": 0, "patched": 0, "hidden": 0, "unplaced": 0}
        self.facet_changes = FacetChanges()
        self._publish()

    def view(self) -> OverlayView:
        """The state after the last whole group of updates."""
        return self._view

    def apply(self, updates: Sequence[VectorUpdate], pause: Callable[[], None] | None = None) -> list[Applied]:
        """Take a group of updates in and show it at once; what each did, progress marks left out.

        `pause` is called between two of them, so that the caller may let others go first.
        """
        self._commit += 1
        applied = []
        for update in updates:
            if update.state is not None:
                effect = self._take(update, update.state)
                applied.append(Applied(update.state.item_id, update.kind, update.event_time, effect))
            if pause is not None:
                pause()
        self._compact_if_due()
        self._publish()
        return applied

    def stats(self) -> OverlayStats:
        """Numbers as of now."""
        items = self._items
        lists = ENTRY_BYTES * len(items.entries) + ITEM_BYTES * len(items.latest) + sys.getsizeof(items.latest)
        known = items.entry_bytes + lists
        size = known + items.array_bytes + self.facet_changes.bytes + items.masks.bytes + items.corrected.bytes
        return OverlayStats(
            touched=len(self._items.latest),
            refused_vectors=self._refused,
            bytes=size,
            budget_bytes=self._budget,
            **self._counts,
        )

    def _take(self, update: VectorUpdate, incoming: ItemState) -> Effect:
        row = int(self._index.rows_of([incoming.item_id])[0])
        key: Key = row if row >= 0 else incoming.item_id
        sealed = self._sealed_state(row, incoming)
        at = self._items.latest.get(key, NONE)
        entry = None if at == NONE else self._items.entries[at]
        current = sealed if entry is None else state_of_entry(entry, sealed.columns)
        old_slot = NONE if entry is None else int(self._items.slots.array[at])
        was_shown = row >= 0 if entry is None else bool(self._items.shown.array[at])
        incoming = tidy(incoming)
        merged = current.merge(incoming) if current.version != UNSEEN else incoming
        missing = not was_shown and not current.deleted
        if merged == current and not (missing and self._space in update.vectors):
            return Effect.UNCHANGED
        slot, shown = self._place(update, merged, current, sealed, old_slot)
        if merged == current and not shown:
            return Effect.UNCHANGED
        kept = entry_of_state(merged, sealed.columns)
        self._items.add(key, kept, slot, shown, self._commit)
        self._dead_slots += old_slot not in (NONE, slot)
        before = (row, old_slot, was_shown, current.deleted, entry is not None)
        self._count(before, (row, slot, shown, merged.deleted, True))
        self.facet_changes.note(current.columns if was_shown else None, merged.columns if shown else None)
        if merged.deleted:
            return Effect.GONE if was_shown else Effect.UNCHANGED
        if not shown:
            return Effect.UNPLACED
        return Effect.PATCHED if was_shown and slot == old_slot else Effect.SEARCHABLE

    def _sealed_state(self, row: int, incoming: ItemState) -> ItemState:
        """State of the sealed row; without its keywords, half the cost of reading it, when `incoming` sets none."""
        if row < 0:
            return unknown_item(incoming.item_id)
        state = state_of_row(self._products.row(row, PACKED))
        if incoming.version_of(PACKED) > state.version_of(PACKED):
            return state_of_row(self._products.row(row))
        columns = {name: value for name, value in state.columns.items() if name != PACKED}
        return replace(state, columns=columns)

    def _place(
        self, update: VectorUpdate, merged: ItemState, current: ItemState, sealed: ItemState, old_slot: int
    ) -> tuple[int, bool]:
        """Slot of the item's vector, NONE for its sealed row's or for none, and whether the item is found."""
        wanted = merged.content_hash
        if wanted is not None and wanted == sealed.content_hash:
            return NONE, not merged.deleted
        if old_slot != NONE and wanted == current.content_hash:
            return old_slot, not merged.deleted
        vector = update.vectors.get(self._space)
        matches = update.state is not None and update.state.content_hash == wanted and wanted is not None
        if vector is None or not matches or not self._is_sound(vector, merged.item_id):
            return NONE, False
        # Kept for a deleted item too: a restore that came first must not end otherwise than one that comes last.
        return self._items.add_vector(vector, self._commit), not merged.deleted

    def _is_sound(self, vector: Vectors, item_id: str) -> bool:
        dim = self._index.manifest.space.dim
        if vector.shape == (dim,) and np.isfinite(vector).all():
            norm = float(np.linalg.norm(vector.astype(np.float64)))
            if abs(norm - 1) <= NORM_TOLERANCE:
                return True
        self._refused += 1
        if self._refused == 1:
            log.warning(
                "the vector of item %s is refused: allowed are %d finite numbers of norm 1 ± %g; the item is not found "
                "until a sound one comes. Later ones like it are only counted",
                item_id, dim, NORM_TOLERANCE,
            )  # fmt: skip
        return False

    def _count(self, before: tuple[int, int, bool, bool, bool], after: tuple[int, int, bool, bool, bool]) -> None:
        for sign, (row, slot, shown, deleted, touched) in ((-1, before), (1, after)):
            if touched:
                by_row = shown and slot == NONE
                self._counts["slots"] += sign * (shown and slot != NONE)
                self._counts["patched"] += sign * by_row
                self._counts["hidden"] += sign * (row >= 0 and not by_row)
                self._counts["unplaced"] += sign * (not shown and not deleted)

    def _compact_if_due(self) -> None:
        """Leave the dead behind once there are many: every entry is then copied once or twice on average."""
        items = self._items
        dead, slots = items.dead_entries, len(items.slot_born.array)
        if dead > max(LEAST_DEAD, len(items.entries) - dead) or self._dead_slots > max(
            LEAST_DEAD, MANY_DEAD_SLOTS * (slots - self._dead_slots)
        ):
            self._items = items.compacted()
            self._dead_slots = 0
            self.facet_changes.forget_unchanged()

    def _publish(self) -> None:
        self.facet_changes.commit()
        counts = self._counts
        self._view = OverlayView(self._items, self._id, self._commit, counts["hidden"], counts["slots"])
