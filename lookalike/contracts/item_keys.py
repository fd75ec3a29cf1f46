"""Item ids as 64-bit keys: a hundred million of them are looked up in 8 bytes each, without a string in memory.

Of 100 million different ids some two have the same key with a probability of 0.03 %.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Rows = NDArray[np.int64]

NO_KEY = np.uint64(0)
"""Key of a missing text."""
NO_PLACE = -1
_WORD_BYTES = 8
_FIRST, _SECOND, _STEP = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB), np.uint64(0x9E3779B97F4A7C15)


def keys_of(texts: pa.Array | pa.ChunkedArray) -> Keys:
    """A key of each text, shape (len(texts),); NO_KEY where it is null. The same for all string types of Arrow."""
    chunks = texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]
    return np.concatenate([np.zeros(0, np.uint64), *(_keys(chunk.cast(pa.large_string())) for chunk in chunks)])


def joined(first: Keys, second: Keys) -> Keys:
    """A key of each pair of keys."""
    return _mixed(_mixed(first + _STEP) ^ second)


def ranks(keys: Keys, seed: int) -> Keys:
    """Another random order of the keys for each seed: the lowest n of all are n items drawn at random."""
    return joined(np.full(1, seed, np.uint64), keys)


def lowest(keys: Keys, size: int, seed: int) -> Rows:
    """Positions of at most `size` keys drawn by seed, ascending; a key drawn twice or in two parts is one item."""
    ranked, first = np.unique(ranks(keys, seed), return_index=True)
    return np.sort(first[: min(size, len(ranked))])


class ItemKeys:
    """Keys of a set of items, ascending; an item's place is where its key stands."""

    def __init__(self, keys: Keys) -> None:
        """`keys`: ascending; kept, not copied."""
        self.keys = keys

    def __len__(self) -> int:
        return len(self.keys)

    def find(self, keys: Keys) -> Rows:
        """Place of each key, shape (len(keys),); NO_PLACE where it is not among the items."""
        if not len(self.keys):
            return np.full(len(keys), NO_PLACE, np.int64)
        # Sorted needles meet memory in order: several times as quick among a hundred million.
        order = np.argsort(keys)
        places = np.empty(len(keys), np.int64)
        places[order] = np.searchsorted(self.keys, keys[order])
        places[places == len(self.keys)] = 0
        return np.where(self.keys[places] == keys, places, NO_PLACE)


def _keys(texts: pa.LargeStringArray) -> Keys:
    if not len(texts):
        return np.zeros(0, np.uint64)
    offsets = np.frombuffer(texts.buffers()[1], np.int64, len(texts) + 1, texts.offset * 8)
    data = texts.buffers()[2]
    own = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    first = int(offsets[0])
    padded = np.concatenate([own[first : int(offsets[-1])], np.zeros(_WORD_BYTES, np.uint8)])
    words = np.lib.stride_tricks.sliding_window_view(padded, _WORD_BYTES)
    lengths, starts = np.diff(offsets), offsets[:-1] - first
    keys = _mixed(lengths.astype(np.uint64) + _STEP)
    for at in range(0, int(lengths.max(initial=0)), _WORD_BYTES):
        longer = np.flatnonzero(lengths > at)
        read = words[starts[longer] + at].copy()
        read[np.arange(_WORD_BYTES) >= (lengths[longer] - at)[:, None]] = 0
        keys[longer] = _mixed(keys[longer] ^ read.view(np.uint64)[:, 0])
    return np.where(np.asarray(pc.is_valid(texts)), keys, NO_KEY)


def _mixed(keys: Keys) -> Keys:
    """Bits well mixed, reversibly (the finaliser of SplitMix64: Steele, Lea and Flood, 2014)."""
    keys = (keys ^ (keys >> np.uint64(30))) * _FIRST
    keys = (keys ^ (keys >> np.uint64(27))) * _SECOND
    mixed: Keys = keys ^ (keys >> np.uint64(31))
    return mixed
