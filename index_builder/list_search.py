"""Search in lists: the nearest lists on the encoder's own axes, then their codes on axes made for the questions.

A picture lies near to few centres and its neighbours in their lists; words lie about as far from hundreds. So beside a
number of lists, the most that are probed, a search may have a margin: lists whose centre has a product with the query
that is less than the best one's by more are left out (after SPANN, Chen et al. 2021, arXiv 2111.08566, where it is a
ratio of distances).
"""

import math
from collections.abc import Mapping
from typing import Any

from index_builder.allowed_lists import AllowedLists
from index_builder.axes import Axes
from index_builder.list_centres import ListCentres, Lists
from index_builder.scanned_centres import ScannedCentres
from index_builder.search_parameters import search_lists, selector
from lookalike.contracts.encoder import Vectors
from lookalike.contracts.row_set import RowSet
from lookalike.contracts.sealed_index import Rows

ROWS_PER_RESULT = 64
"""So many rows are in the lists probed at least, whatever the margin: all candidates are to be found there."""
PER_UNIT = 1_000


class ListSearch:
    """Over one faiss index of inverted lists, whose rows are 0..items-1. Thread-safe."""

    def __init__(self, index: Any, centres: ListCentres, axes: Axes, items: int) -> None:
        """`index` holds codes on `axes`, in lists around `centres`."""
        self.centres, self._nearest = centres, ScannedCentres(centres, axes)
        self._index, self._axes, self._items = index, axes, max(items, 1)
        self._allowed = AllowedLists(index, self._nearest, items)

    def candidates(
        self, queries: Vectors, k: int, count: int, search: Mapping[str, int], allowed: RowSet | None = None
    ) -> Rows:
        """So many rows per query, best first by their codes, -1 for none, shape (q, count), of which k are to be kept.

        `search`: `nprobe`, lists to probe at most, and `margin`, if any, in thousandths. With a filter, those that a
        search without one would probe at most.
        """
        if allowed is None:
            lists = self.probed(queries, k, search)
        else:
            lists = self._allowed.chosen(queries, allowed, search["nprobe"])
        return search_lists(self._index, self._axes.of_queries(queries), count, lists, selector(allowed))[1]

    def probed(self, queries: Vectors, k: int, search: Mapping[str, int]) -> Lists:
        """Lists that are probed for the best k, nearest first, -1 beyond the last, shape (q, lists)."""
        if "margin" not in search:
            return self._nearest.nearest(queries, search["nprobe"])
        least = math.ceil(ROWS_PER_RESULT * k * len(self.centres) / self._items)
        return self._nearest.near_enough(queries, search["nprobe"], search["margin"] / PER_UNIT, least)
