"""Changed items: an append-only record of every state that an item took, and immutable views of it.

Each new state of an item is an entry; the entry before it dies with the same commit. A view is a commit number and
two lengths: of the entries below its length those live that did not die at or before its commit. So the one writer
only ever appends and marks deaths, and readers of any number of views need no lock and never see half a commit.
"""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lookalike.contracts.encoder import Vectors
from lookalike.contracts.sealed_index import Rows
from lookalike.search.corrected import CorrectedRows
from lookalike.search.entries import Entry, bytes_of
from lookalike.search.entry_masks import EntryMasks
from lookalike.search.fresh_vectors import FreshVectors, MakeBlock

NONE = -1
NEVER = np.iinfo(np.int64).max
FIRST_CAPACITY = 64

Key = int | str
"""An item of the sealed index by its row, any other by its id."""


class Growing:
    """A numpy array that is appended to; what was appended never changes place in arrays handed out before."""

    def __init__(self, dtype: DTypeLike, width: int | None = None) -> None:
        self._array = np.empty((FIRST_CAPACITY,) if width is None else (FIRST_CAPACITY, width), dtype)
        self._used = 0

    @property
    def array(self) -> NDArray[Any]:
        """All that was appended."""
        return self._array[: self._used]

    @property
    def bytes(self) -> int:
        return self._array.nbytes

    def append(self, value: Any) -> int:
        """Position of the new value."""
        if self._used == len(self._array):
            grown = np.empty((2 * len(self._array), *self._array.shape[1:]), self._array.dtype)
            grown[: self._used] = self._array
            self._array = grown
        self._array[self._used] = value
        self._used += 1
        return self._used - 1

    def fill(self, values: NDArray[Any]) -> None:
        """Hold exactly these values, with room for a quarter more."""
        self._used = len(values)
        self._array = np.empty((max(FIRST_CAPACITY, self._used * 5 // 4), *values.shape[1:]), self._array.dtype)
        self._array[: self._used] = values


class ChangedItems:
    """Entries with their sealed row, slot (place of their own vector) and whether a search may find them."""

    def __init__(self, dim: int, make_block: MakeBlock) -> None:
        self._make_block = make_block
        self.entries: list[Entry] = []
        self.masks, self.corrected = EntryMasks(self.entries), CorrectedRows()
        self.latest: dict[Key, int] = {}
        self.rows, self.slots = Growing(np.int64), Growing(np.int64)
        self.shown, self.died = Growing(np.bool_), Growing(np.int64)
        # A list: readers of older views follow it while the writer appends.
        self.previous: list[int] = []
        self.vectors, self.slot_born = Growing(np.float32, dim), Growing(np.int64)
        self._coded = FreshVectors(self.vectors.array)
        self.sizes = Growing(np.int64)
        self.entry_bytes = self.dead_entries = 0

    def add(self, key: Key, entry: Entry, slot: int, shown: bool, commit: int) -> None:
        """The item's state from `commit` on; its entry before dies."""
        previous = self.latest.get(key, NONE)
        self.entries.append(entry)
        size = bytes_of(entry)
        self.sizes.append(size)
        self.entry_bytes += size
        self.rows.append(key if isinstance(key, int) else NONE)
        self.slots.append(slot)
        self.shown.append(shown)
        self.died.append(NEVER)
        self.previous.append(previous)
        if previous != NONE:
            self.died.array[previous] = commit
            self.dead_entries += 1
        self.latest[key] = len(self.entries) - 1

    def add_vector(self, vector: Vectors, commit: int) -> int:
        """Its slot."""
        self.slot_born.append(commit)
        return self.vectors.append(vector)

    def fresh_vectors(self) -> FreshVectors:
        """All vectors so far, to search in. Of the one writer only."""
        self._coded = FreshVectors(self.vectors.array, self._coded.blocks).with_blocks(self._make_block)
        return self._coded

    @property
    def array_bytes(self) -> int:
        """Of all arrays, with the room that they hold in reserve."""
        arrays = (self.rows, self.slots, self.shown, self.died, self.sizes, self.vectors, self.slot_born)
        return sum(array.bytes for array in arrays) + sum(block.bytes for block in self._coded.blocks)

    def compacted(self) -> "ChangedItems":
        """A copy with the live entries and their slots only; views of this one stay as they are."""
        fresh = ChangedItems(self.vectors.array.shape[1], self._make_block)
        live = np.flatnonzero(self.died.array == NEVER)
        slots = self.slots.array[live]
        used = np.unique(slots[slots != NONE])
        fresh.entries.extend(self.entries[at] for at in live.tolist())
        fresh.rows.fill(self.rows.array[live])
        fresh.slots.fill(np.where(slots == NONE, NONE, np.searchsorted(used, slots)))
        fresh.shown.fill(self.shown.array[live])
        fresh.sizes.fill(self.sizes.array[live])
        fresh.entry_bytes = int(fresh.sizes.array.sum())
        fresh.died.fill(np.full(len(live), NEVER))
        fresh.previous = [NONE] * len(live)
        fresh.vectors.fill(self.vectors.array[used])
        fresh.slot_born.fill(self.slot_born.array[used])
        places = np.empty(len(self.entries), np.int64)
        places[live] = np.arange(len(live))
        fresh.latest = {key: int(places[at]) for key, at in self.latest.items()}
        return fresh


class OverlayView:
    """All changed items as of one commit. Immutable; any number of threads may read it, at any time.

    `hidden` is how many sealed rows are not to be found (or not by their sealed vector), `fresh` how many items are
    found by a vector of the overlay.
    """

    def __init__(self, items: ChangedItems, overlay_id: str, commit: int, hidden: int, fresh: int) -> None:
        self.items, self.overlay_id, self.commit, self.hidden, self.fresh = items, overlay_id, commit, hidden, fresh
        self.count, self.masks, self.corrected = len(items.entries), items.masks, items.corrected
        self.rows, self._slots, self._shown = items.rows.array, items.slots.array, items.shown.array
        self._died = items.died.array
        self.fresh_vectors, self.slot_born = items.fresh_vectors(), items.slot_born.array
        self._entry_at: Rows | None = None

    def entry_of(self, key: Key) -> int:
        """Number of the item's live entry, -1 when nothing has touched it."""
        at = self.items.latest.get(key, NONE)
        while at >= self.count:
            # The item changed after this view: an older entry is its state here.
            at = self.items.previous[at]
        return at

    def entry(self, at: int) -> Entry:
        """The entry of this number."""
        return self.items.entries[at]

    def row_of(self, at: int) -> int:
        """Sealed row of the entry's item, -1 for none."""
        return int(self.rows[at])

    def slot_of(self, at: int) -> int:
        """Slot of the entry, -1 where it has no vector of its own."""
        return int(self._slots[at])

    def is_shown(self, at: int) -> bool:
        """Whether a search may find the item."""
        return bool(self._shown[at])

    def hides(self, rows: Rows) -> NDArray[np.bool_]:
        """Which of these sealed rows are not to be found."""
        found = [self.entry_of(row) for row in rows.tolist()]
        return np.array([at != NONE and not (self._shown[at] and self._slots[at] == NONE) for at in found], dtype=bool)

    def entry_vectors(self, entries: Rows) -> Vectors:
        """Own vectors of these entries, shape (len(entries), dim)."""
        found: Vectors = self.fresh_vectors.vectors[self._slots[entries]]
        return found

    @property
    def entry_at(self) -> Rows:
        """By slot: the entry that is found by it, -1 for none. Made at the first use; two threads may both do so."""
        if self._entry_at is None:
            found = np.flatnonzero((self._slots != NONE) & self._shown & (self._died > self.commit))
            entry_at = np.full(len(self.slot_born), NONE)
            entry_at[self._slots[found]] = found
            self._entry_at = entry_at
        return self._entry_at

    def of_sealed_rows(self, start: int) -> tuple[Rows, Rows, NDArray[np.bool_]]:
        """Live entries of sealed rows, from entry `start` on: the rows, the entries, and whether each row is still
        found, with the entry's columns; else it is hidden."""
        at = start + np.flatnonzero((self.rows[start:] != NONE) & (self._died[start:] > self.commit))
        return self.rows[at], at, self._shown[at] & (self._slots[at] == NONE)
