"""Grouped centres: the list that a vector belongs to, where there are too many centres to compare it with all.

Comparing a vector with 131,072 centres of 512 dimensions is 134 Mflop, a second for 500 vectors of one core. So centres
lie in groups; a vector is compared with the groups, then with the centres of the nearest ones along the directions in
which centres differ most from the middle of their group, and exactly with the few that are best by that. Everything but
the last is a product of large matrices, over all vectors of a block that look into the same group.
"""

import math

import faiss
import numpy as np
from numpy.typing import NDArray

from index_builder.axes import even_product
from index_builder.k_means import k_means
from index_builder.parts import one_blas_thread
from index_builder.search_parameters import products_of
from lookalike.contracts.encoder import Vectors

SAMPLED = 64
"""Centres per group that the groups are found with."""
DIRECTIONS = 48
LOOKED_INTO = 16
"""One group in so many is looked into, LEAST at least."""
LEAST = 16
COMPARED = 8
"""Centres that are compared exactly."""
PER_GROUP = 2
"""Centres of one group among these at most."""
BLOCK, ROWS = 8_192, 128
"""Vectors that are looked after together, and that a product is made of: BLAS may round a row differently in others,
and a vector must come to the same list wherever it stands."""


def groups_of(nlist: int) -> tuple[int, int]:
    """How many groups so many centres come in, and how many of them are looked into."""
    groups = 1 << round(math.log2(math.sqrt(nlist)))
    return groups, min(max(LEAST, groups // LOOKED_INTO), groups)


class GroupedCentres:
    """Over unit centres, shape (nlist, dim)."""

    def __init__(self, flat: faiss.IndexFlat, centres: Vectors) -> None:
        """`flat` holds the centres, by inner product."""
        self._flat, dim = flat, centres.shape[1]
        groups, self._looked_into = groups_of(len(centres))
        some = np.linspace(0, len(centres) - 1, min(len(centres), SAMPLED * groups)).astype(np.int64)
        middles = k_means(centres[some], groups)
        group = np.concatenate(
            [(centres[start : start + BLOCK] @ middles.T).argmax(axis=1) for start in range(0, len(centres), BLOCK)]
        )
        self._members = np.argsort(group, kind="stable")
        self._starts = np.searchsorted(group[self._members], np.arange(groups + 1))
        own = centres[some] - middles[group[some]]
        with one_blas_thread():
            directions = np.linalg.eigh((own.T @ own).astype(np.float64))[1][:, ::-1][:, : min(DIRECTIONS, dim)]
        directions = np.ascontiguousarray(directions, dtype=np.float32)
        along = centres @ directions - (middles @ directions)[group]
        self._own = np.ascontiguousarray(along[self._members].T)
        self._first = np.ascontiguousarray(np.concatenate([middles.T, directions], axis=1))

    def nearest_of(self, vectors: Vectors) -> NDArray[np.int64]:
        """Number of the centre nearest to each vector, shape (n,); in few cases that of one nearly as near."""
        found = [self._nearest(vectors[start : start + BLOCK]) for start in range(0, len(vectors), BLOCK)]
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def _nearest(self, block: Vectors) -> NDArray[np.int64]:
        groups = len(self._starts) - 1
        first = even_product(block, self._first, ROWS)
        by_group, along = first[:, :groups], np.ascontiguousarray(first[:, groups:])
        near = np.argpartition(-by_group, self._looked_into - 1, axis=1)[:, : self._looked_into]
        pairs = np.argsort(near.ravel(), kind="stable")
        bounds = np.searchsorted(near.ravel()[pairs], np.arange(groups + 1))
        shape = len(block) * self._looked_into, PER_GROUP
        scores, centres = np.full(shape, -np.inf, np.float32), np.zeros(shape, np.int64)
        for group in np.flatnonzero(np.diff(bounds) * np.diff(self._starts)):
            members = slice(self._starts[group], self._starts[group + 1])
            here = pairs[bounds[group] : bounds[group + 1]]
            rows = here // self._looked_into
            products = even_product(along[rows], self._own[:, members], ROWS)
            products += by_group[rows, group, None]
            for at in range(min(PER_GROUP, products.shape[1])):
                best = products.argmax(axis=1)
                each = np.arange(len(rows)), best
                scores[here, at], centres[here, at] = products[each], self._members[members][best]
                products[each] = -np.inf
        scores, centres = scores.reshape(len(block), -1), centres.reshape(len(block), -1)
        few = np.argpartition(-scores, COMPARED - 1, axis=1)[:, :COMPARED]
        compared = np.take_along_axis(centres, np.sort(few, axis=1), axis=1)
        exact = products_of(self._flat, block, compared)
        return np.asarray(compared[np.arange(len(block)), exact.argmax(axis=1)])
