"""RowSet: which rows of an index are meant; sets are joined without touching rows one by one.

Held as one bit per row, or as the rows themselves where these take less room (below one row in 32). Of a hundred
million rows bits are 12.5 MB, two such sets are joined in a millisecond or two, and faiss takes the bits as they are;
a small set costs what its rows cost, whatever it is joined with.
"""

from collections.abc import Iterable
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

WORD_BYTES = 8
LIKE = 64
"""Sets are alike that differ by no more than one row in so many."""
EVENLY = 4_096
"""Some rows of a set are taken from so many places at least."""

Held = NDArray[Any]
"""uint8 or int32."""


class RowSet:
    """Rows out of 0..items-1; immutable. Both forms are the same set to whoever asks."""

    def __init__(self, held: Held, items: int) -> None:
        """`held`: uint8, bit r (least significant first) is row r, whole words of 8 bytes, bits beyond the items 0; or
        int32, the rows ascending, none twice. Kept, not copied.
        """
        if held.dtype == np.uint8 and len(held) != _bytes_for(items):
            raise ValueError(f"bits must be {_bytes_for(items)} bytes for {items} rows; got {len(held)}")
        if held.dtype not in (np.uint8, np.int32):
            raise ValueError(f"rows are held as uint8 (bits) or int32 (rows); got {held.dtype}")
        self._held, self.items = held, items
        self._held.flags.writeable = False
        self.like: RowSet | None = None
        """A set that has all but few of these rows: what need not be exact about this one may be known of that one."""
        self.added: NDArray[np.int64] = np.empty(0, np.int64)
        """Rows that were put in since `like`; they may have been in it."""
        self._changes = 0

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> Self:
        """Rows that are true in a mask, shape (items,)."""
        bits = no_bits(len(mask))
        bits[: -(-len(mask) // 8)] = np.packbits(mask, bitorder="little")
        return cls(bits, len(mask))

    @classmethod
    def of_rows(cls, rows: NDArray[Any], items: int) -> Self:
        """These rows: integers, ascending, none twice."""
        few = cls(rows.astype(np.int32, copy=False), items)
        return few if is_few(len(rows), items) else cls(few.bits, items)

    @classmethod
    def every(cls, items: int) -> Self:
        """All rows."""
        bits = no_bits(items)
        bits[: items // 8] = 0xFF
        if items % 8:
            bits[items // 8] = (1 << items % 8) - 1
        return cls(bits, items)

    @classmethod
    def read(cls, data: Any, items: int) -> Self:
        """The set whose `data` these bytes are: rows are only held where they take less room, so their length tells."""
        held = np.frombuffer(data, np.uint8)
        return cls(held if len(held) == _bytes_for(items) else held.view(np.int32), items)

    @classmethod
    def union(cls, sets: Iterable[Self], items: int) -> Self:
        """Rows that are in any of the sets."""
        given = list(sets)
        if len(given) == 1:
            return given[0]
        if all(each._is_few for each in given) and is_few(sum(each.count for each in given), items):
            rows = np.sort(np.concatenate([np.empty(0, np.int32), *(each._held for each in given)]))
            return cls(rows[np.append(True, rows[1:] != rows[:-1])[: len(rows)]], items)
        bits = no_bits(items)
        for each in given:
            if each._is_few:
                add_rows(bits, each._held)
            else:
                bits |= each._held
        return cls(bits, items)

    def __and__(self, other: Self) -> Self:
        """Rows that are in both."""
        if self.items != other.items:
            raise ValueError(f"sets of {self.items} and {other.items} rows cannot be joined")
        if not (self._is_few or other._is_few):
            return type(self)((_words(self._held) & _words(other._held)).view(np.uint8), self.items)
        swap = not self._is_few or (other._is_few and len(other._held) < len(self._held))
        small, large = (other, self) if swap else (self, other)
        return type(self)(small._held[large.has(small._held)], self.items)

    def __invert__(self) -> Self:
        """All other rows."""
        return type(self)(self.bits ^ type(self).every(self.items).bits, self.items)

    @cached_property
    def count(self) -> int:
        """How many rows."""
        return len(self._held) if self._is_few else int(np.bitwise_count(_words(self._held)).sum(dtype=np.int64))

    @property
    def data(self) -> NDArray[np.uint8]:
        """What is held, as bytes; see `read`."""
        return self._held.view(np.uint8)

    @property
    def bits(self) -> NDArray[np.uint8]:
        """The set as bits. Made anew at each call where rows are held: kept, they would be what the rows save."""
        if not self._is_few:
            return self._held
        bits = no_bits(self.items)
        add_rows(bits, self._held)
        return bits

    def has(self, rows: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of these rows are in the set, shape (len(rows),)."""
        if not self._is_few:
            return np.asarray((self._held[rows >> 3] & _masks(rows)) != 0)
        if not len(self._held):
            return np.zeros(len(rows), dtype=bool)
        wanted = rows.astype(np.int32, copy=False)
        at = np.searchsorted(self._held, wanted)
        return np.asarray(self._held[np.minimum(at, len(self._held) - 1)] == wanted)

    def rows(self) -> NDArray[np.int64]:
        """The rows, ascending; costs little where they are few."""
        if self._is_few:
            return self._held.astype(np.int64)
        return self._rows_in(np.flatnonzero(_words(self._held)))

    def some(self, wanted: int) -> NDArray[np.int64]:
        """About `wanted` of the rows, evenly from all of them; all where there are no more."""
        step = -(-self.count // max(wanted, 1))
        if step <= 1:
            return self.rows()
        if self._is_few:
            return self._held[::step].astype(np.int64)
        words = len(self._held) // WORD_BYTES
        found = self._rows_in(np.arange(0, words, max(1, min(step, words // EVENLY))))
        return found[:: max(1, len(found) // wanted)]

    def changed(self, rows: NDArray[np.int64], present: NDArray[np.bool_]) -> Self:
        """The same set, but each of `rows` (no row twice) in it or not as `present` says."""
        put_in = rows[present]
        if self._is_few:
            stay = np.setdiff1d(self._held, rows, assume_unique=True)
            return type(self).of_rows(np.union1d(stay, put_in), self.items)._like(self, put_in, len(rows))
        bits, absent = self._held.copy(), rows[~present]
        add_rows(bits, put_in)
        np.bitwise_and.at(bits, absent >> 3, ~_masks(absent))
        return type(self)(bits, self.items)._like(self, put_in, len(rows))

    def _like(self, before: Self, put_in: NDArray[np.int64], changes: int) -> Self:
        """This set, which so many changes of rows make of `before`."""
        few = before.count // LIKE
        if before.like is not None and before._changes + changes <= few:
            self.like, self._changes = before.like, before._changes + changes
            self.added = np.concatenate([before.added, put_in])
        elif changes <= few:
            self.like, self._changes, self.added = before, changes, put_in
        return self

    def _rows_in(self, words: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of these words of the bits."""
        unpacked = np.unpackbits(self._held.reshape(-1, WORD_BYTES)[words], axis=1, bitorder="little")
        at, bit = np.nonzero(unpacked)
        found: NDArray[np.int64] = words[at] * (8 * WORD_BYTES) + bit
        return found

    @property
    def _is_few(self) -> bool:
        return self._held.dtype == np.int32


def is_few(count: Any, items: int) -> Any:
    """Whether so many rows (a number or an array of them) take less room than a bit for each of all items."""
    return 4 * count < _bytes_for(items)


def no_bits(items: int) -> NDArray[np.uint8]:
    """Bits of the empty set, to be filled by `add_rows`."""
    return np.zeros(_bytes_for(items), np.uint8)


def add_rows(bits: NDArray[np.uint8], rows: NDArray[Any]) -> None:
    """Put rows into the bits of a set that is being made; quickest where they ascend."""
    np.bitwise_or.at(bits, rows >> 3, _masks(rows))


def _masks(rows: NDArray[Any]) -> NDArray[np.uint8]:
    """The bit of each row within its byte."""
    return np.left_shift(np.uint8(1), (rows & 7).astype(np.uint8))


def _words(bits: NDArray[Any]) -> NDArray[np.uint64]:
    return bits.view(np.uint64)


def _bytes_for(items: int) -> int:
    return -(-items // (8 * WORD_BYTES)) * WORD_BYTES
