"""Search in lists: the nearest lists on the encoder's own axes, then their codes on axes made for the questions."""

from typing import Any

from index_builder.allowed_lists import AllowedLists
from index_builder.axes import Axes
from index_builder.list_centres import ListCentres
from index_builder.scanned_centres import ScannedCentres
from index_builder.search_parameters import search_lists, selector
from lookalike.contracts.encoder import Vectors
from lookalike.contracts.row_set import RowSet
from lookalike.contracts.sealed_index import Rows


class ListSearch:
    """Over one faiss index of inverted lists, whose rows are 0..items-1. Thread-safe."""

    def __init__(self, index: Any, centres: ListCentres, axes: Axes, items: int) -> None:
        """`index` holds codes on `axes`, in lists around `centres`."""
        self.centres, self._nearest = centres, ScannedCentres(centres, axes)
        self._index, self._axes, self._allowed = index, axes, AllowedLists(index, self._nearest, items)

    def candidates(self, queries: Vectors, count: int, nprobe: int, allowed: RowSet | None = None) -> Rows:
        """So many rows per query, best first by their codes, -1 for none, shape (q, count).

        `nprobe`: lists to probe; with a filter, those that a search without one would probe.
        """
        lists = (
            self._nearest.nearest(queries, nprobe)
            if allowed is None
            else self._allowed.chosen(queries, allowed, nprobe)
        )
        return search_lists(self._index, self._axes.of_queries(queries), count, lists, selector(allowed))[1]
