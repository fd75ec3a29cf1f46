"""Scanned centres: which lists a query lies nearest to, where there are many of them.

Comparing a query with 131,072 centres of 512 dimensions reads 268 MB, as long as the rest of its search. Codes of their
images, as items have them, are a thirtieth of that and scanned fast; those that are best by their codes are compared.
"""

from typing import Any

import faiss
import numpy as np

from index_builder.axes import Axes
from index_builder.list_centres import ListCentres, Lists
from index_builder.list_codes import BITS, BLOCK, FAISS
from index_builder.lists import MANY_LISTS
from index_builder.search_parameters import products_of
from lookalike.contracts.encoder import Vectors

MORE, LEAST_MORE = 1.5, 64
"""So many times the lists wanted are compared, and this many more at least."""
ALL_FROM = 8
"""From one list in so many on that are wanted, all are compared."""
TRAINED_ON = 65_536


class ScannedCentres:
    """Over `centres` and the `axes` that items are coded on. Thread-safe."""

    def __init__(self, centres: ListCentres, axes: Axes) -> None:
        self._centres, self._axes = centres, axes
        self._codes = _codes(axes.of_items(centres.vectors)) if len(centres) >= MANY_LISTS else None

    def nearest(self, queries: Vectors, count: int) -> Lists:
        """So many lists nearest to each query, or all, nearest first, shape (q, count); a few of the last may differ
        from those that are as near."""
        return self._with_products(queries, count)[1]

    def near_enough(self, queries: Vectors, most: int, margin: float, least: int = 1) -> Lists:
        """The nearest lists, at most so many, whose centres have a product with the query within `margin` of that of
        the nearest one; the first `least` in any case. Nearest first, -1 beyond the last, shape (q, c)."""
        products, lists = self._with_products(queries, most)
        beyond = products < products[:, :1] - margin
        beyond[:, :least] = False
        width = lists.shape[1] - int(beyond.all(axis=0).sum())  # products descend
        return np.where(beyond, -1, lists)[:, :width]

    def _with_products(self, queries: Vectors, count: int) -> tuple[Vectors, Lists]:
        if self._codes is None or count * ALL_FROM >= len(self._centres):
            return self._centres.with_products(queries, count)
        wanted = max(int(count * MORE), count + LEAST_MORE)
        found = np.sort(self._codes.search(self._axes.of_queries(queries), wanted)[1], axis=1)
        products = products_of(self._centres.flat, queries, found)
        order = np.argsort(-products, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(products, order, axis=1), np.take_along_axis(found, order, axis=1)


def _codes(images: Vectors) -> Any:
    """Of all rows of `images`, shape (nlist, d)."""
    dim = images.shape[1]
    codes = FAISS.IndexPQFastScan(dim, dim, BITS, faiss.METRIC_INNER_PRODUCT, BLOCK)
    codes.pq.cp.min_points_per_centroid = 1
    codes.train(images[:: -(-len(images) // TRAINED_ON)])
    codes.add(images)
    return codes
