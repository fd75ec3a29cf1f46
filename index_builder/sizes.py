"""Sizes: the bytes of every file of an index, in memory and on disk, as their formats have them.

Nothing here is estimated but how full the last block of a list is, how many links a graph's upper levels have, and what
the columns of an item take, which is told.
"""

import math
from dataclasses import dataclass

import numpy as np

from index_builder.list_codes import BITS, BLOCK
from index_builder.lists import MANY_LISTS

LIST_HEADER = 16
ROW_NUMBER_BYTES = 8
NODE_BYTES = 12
"""Level and offset of a node of a graph."""
TRUTH_BYTES = 512 * 100 * 12
"""What a shard knows of the nearest rows of the tuning's questions."""


@dataclass(frozen=True)
class Codes:
    """How items in lists are coded: so many made axes with four bits each, and so many with eight bits on disk."""

    axes: int
    finer_axes: int


@dataclass(frozen=True)
class Columns:
    """Bytes per item of the columns that come with an index, and of the sets of rows that answer filters."""

    items: float
    sets: float

    @property
    def each(self) -> float:
        """Both."""
        return self.items + self.sets


@dataclass(frozen=True)
class Sizes:
    """Bytes. `index`, `centres` (with the axes) and `opened` are in memory; `finer`, `items` and `sets` on disk."""

    index: int
    centres: int
    opened: int
    """In memory alone: the list of each row, and codes of the centres."""
    finer: int
    items: int
    sets: int
    peak: int
    """On disk while the index is built, itself included."""

    @property
    def memory(self) -> int:
        """Of the index, once it is open."""
        return self.index + self.centres + self.opened

    @property
    def disk(self) -> int:
        """Of all its files."""
        return self.index + self.centres + self.finer + self.items + self.sets


def code_bytes(axes: int) -> int:
    """Of one item's code in a list."""
    return -(-axes * BITS // 8)


def graph_bytes(links: int) -> float:
    """Of a node's links: twice as many on the lowest level; to each further one it rises with 1 chance in `links`."""
    return 4 * (2 * links + links / (links - 1)) + NODE_BYTES


def sizes_of_vectors(items: int, dim: int, columns: Columns, links: int = 0) -> Sizes:
    """Of a recipe that holds the vectors, in a graph of so many links or in none."""
    index = math.ceil(items * (4.0 * dim + (graph_bytes(links) if links else 0)))
    return _with_columns(items, columns, index, kept=4 * dim * items)


def sizes_of_lists(items: int, dim: int, nlist: int, codes: Codes, columns: Columns, shards: int = 1) -> Sizes:
    """Of lists of codes around `nlist` centres; `shards`: in so many parts the build keeps the codes of them all."""
    code = code_bytes(codes.axes)
    lists = items * (code + ROW_NUMBER_BYTES) + nlist * (LIST_HEADER + 4 * codes.axes)
    centres = 4 * dim * nlist + 8 * dim * (codes.axes + codes.finer_axes)
    opened = items * np.min_scalar_type(nlist - 1).itemsize + (nlist * code if nlist >= MANY_LISTS else 0)
    # Codes of a list come in blocks, of which the last one is half full.
    half_full = min(nlist, items) * code * BLOCK // 2
    finer = items * codes.finer_axes
    parts = lists + half_full * shards + TRUTH_BYTES * shards
    moved = finer // shards  # the finer codes of the shards go into one file, one after the other
    return _with_columns(
        items,
        columns,
        math.ceil(lists + half_full),
        centres,
        finer,
        opened=opened,
        for_a_while=math.ceil(max(parts, moved)),
    )


def _with_columns(
    items: int,
    columns: Columns,
    index: int,
    centres: int = 0,
    finer: int = 0,
    opened: int = 0,
    kept: int = 0,
    for_a_while: int = 0,
) -> Sizes:
    """`kept`: what else lies there until the build is done, beside the columns of the shards; `for_a_while`: what is
    gone before these columns are joined."""
    own, sets = math.ceil(items * columns.items), math.ceil(items * columns.sets)
    peak = index + centres + finer + own + kept + max(for_a_while, own + sets)
    return Sizes(index, centres, opened, finer, own, sets, peak)
