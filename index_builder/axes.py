"""Axes made for the questions: maps of queries and items that keep inner products in few, evenly used dimensions.

Of all maps A of queries and B of items to d dimensions, those that lose least of q·x over the questions expected follow
from the singular vectors of Cq^½ Cx^½, where C are second moments (LeanVec, Tepper et al. 2023, arXiv 2312.16335). The
root of each singular value goes to either side, and one random rotation turns both, so that a code that spends
as much on every dimension loses as little of any. Words lie away from pictures: principal components of the items would
cut what tells items apart for them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from index_builder.parts import one_blas_thread
from lookalike.contracts.encoder import Vectors

Matrix = NDArray[np.float64]

RIDGE = 1e-4
"""Of the mean eigenvalue, added to each: roots of a moment are to be inverted."""
SEED = 17
ROWS = 1_024
"""Of one product: in larger and smaller ones BLAS may round a row differently, and equal rows must be equal bytes."""


@dataclass(frozen=True)
class Axes:
    """`items` and `queries`, float32, shape (dim, d) both; None: the encoder's own axes."""

    items: Vectors | None = None
    queries: Vectors | None = None

    def of_items(self, vectors: Vectors) -> Vectors:
        """Images of items, shape (n, d); each row's bytes depend on its own vector only."""
        return vectors if self.items is None else even_product(vectors, self.items)

    def of_queries(self, vectors: Vectors) -> Vectors:
        """Images of queries, shape (n, d)."""
        return vectors if self.queries is None else np.asarray(vectors @ self.queries)

    def own(self, images: Vectors) -> Vectors:
        """Vectors on the encoder's axes, shape (n, dim), whose inner product with any query is that of the images."""
        return images if self.queries is None else np.asarray(images @ self.queries.T)


@dataclass(frozen=True)
class ArtifactAxes:
    """Of an artifact with lists: those of the codes that are searched first, and those of the finer ones."""

    codes: Axes
    finer: Axes

    def save(self, path: Path) -> None:
        """Equal axes are equal bytes."""
        parts = {"codes": self.codes, "finer": self.finer}
        np.savez(path, **{f"{name}_{side}": getattr(each, side) for name, each in parts.items() for side in SIDES})

    @classmethod
    def load(cls, path: Path) -> Self:
        """What `save` wrote. Raises OSError, ValueError or KeyError for another file."""
        with np.load(path) as kept:
            return cls(*(Axes(*(kept[f"{name}_{side}"] for side in SIDES)) for name in ("codes", "finer")))


OWN_AXES = ArtifactAxes(Axes(), Axes())
"""Of artifacts that were made before axes were."""
SIDES = ("items", "queries")


class AxesFit:
    """The best axes for given vectors, of which any number of the first is kept."""

    def __init__(self, items: Vectors, texts: Vectors | None = None) -> None:
        """`items`, shape (n, dim), are asked with too; `texts`, shape (m, dim): the same weight in all, if any."""
        of_items = _moment(items)
        asked = of_items if texts is None or len(texts) == 0 else (of_items + _moment(texts)) / 2
        with one_blas_thread():
            (asked_root, asked_inverse), (items_root, items_inverse) = _roots(asked), _roots(of_items)
            left, self.weights, right = np.linalg.svd(asked_root @ items_root)
        root = np.sqrt(self.weights)
        self._queries: Matrix = asked_inverse @ left * root
        self._items: Matrix = items_inverse @ right.T * root

    @property
    def dim(self) -> int:
        """Of the space, and the most that are kept."""
        return len(self.weights)

    def kept(self, count: int) -> float:
        """Share of the singular values that the first `count` axes have."""
        return float(self.weights[:count].sum() / self.weights.sum())

    def cut(self, count: int) -> Axes:
        """The first `count`, turned at random, the same way every time."""
        with one_blas_thread():
            turn = np.linalg.qr(np.random.default_rng(SEED).standard_normal((count, count)))[0]
        items, queries = (
            np.ascontiguousarray(each[:, :count] @ turn, dtype=np.float32) for each in (self._items, self._queries)
        )
        return Axes(items, queries)


def even_product(vectors: Vectors, matrix: Vectors, rows: int = ROWS) -> Vectors:
    """`vectors`, shape (n, dim), times `matrix`, shape (dim, m); a row of it is the same wherever it stands.

    `rows`: of one product; fewer where there are few vectors to each matrix.
    """
    found = np.empty((len(vectors), matrix.shape[1]), np.float32)
    for start in range(0, len(vectors), rows):
        block = vectors[start : start + rows]
        filled = block if len(block) == rows else np.pad(block, ((0, rows - len(block)), (0, 0)))
        found[start : start + len(block)] = (filled @ matrix)[: len(block)]
    return found


def _moment(vectors: Vectors) -> Matrix:
    """Second moment of trace 1."""
    moment = np.zeros((vectors.shape[1],) * 2)
    for start in range(0, len(vectors), ROWS):
        block = vectors[start : start + ROWS].astype(np.float64)
        moment += block.T @ block
    return np.asarray(moment / np.trace(moment))


def _roots(moment: Matrix) -> tuple[Matrix, Matrix]:
    """Its symmetric root, and the inverse of that."""
    values, vectors = np.linalg.eigh(moment)
    root = np.sqrt(np.maximum(values, 0) + RIDGE * values.mean())
    return vectors * root @ vectors.T, vectors / root @ vectors.T
