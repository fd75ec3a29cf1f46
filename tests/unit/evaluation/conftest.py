"""A small catalogue with known neighbours and an exact in-memory index, into which tests plant faults."""

import hashlib
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pytest


def unit(rows):
    rows = np.asarray(rows, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@dataclass
class MemoryIndex:
    """The SealedIndex port by brute force over `held`; `blind` rows are never found, as with lists not probed.

    `looked_at`: so many candidates are found without regard to a filter, which is applied to them afterwards.
    """

    item_ids: list
    held: np.ndarray
    blind: set = field(default_factory=set)
    looked_at: int | None = None
    sets = None

    @property
    def columns(self):
        return pa.table({"item_id": pa.array(self.item_ids, pa.string())})

    def search(self, queries, k, allowed=None):
        return self.planned_search(queries, k, allowed)[:2]

    def planned_search(self, queries, k, allowed=None, exact=False):
        scores = queries @ self.held.T
        scores[:, sorted(self.blind)] = -np.inf
        if allowed is not None:
            if self.looked_at is not None:
                scores[scores < -np.sort(-scores, axis=1)[:, [self.looked_at - 1]]] = -np.inf
            scores[:, ~allowed.has(np.arange(len(self.held)))] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        best = np.take_along_axis(scores, order, axis=1)
        rows = np.where(np.isfinite(best), order, -1)
        short = k - rows.shape[1]
        pads = ((0, 0), (0, max(0, short)))
        padded = np.pad(rows, pads, constant_values=-1).astype(np.int64)
        return np.pad(best, pads, constant_values=-np.inf), padded, "index"

    def vectors(self, rows):
        return self.held[rows]

    def rows_of(self, item_ids):
        place = {item: row for row, item in enumerate(self.item_ids)}
        return np.array([place.get(item, -1) for item in item_ids], dtype=np.int64)


@dataclass
class SmallCatalogue:
    item_ids: list
    groups: list
    brands: list
    titles: list
    vectors: np.ndarray
    silver: pa.Table

    def index(self, vectors=None, keep=None):
        rows = list(range(len(self.item_ids))) if keep is None else list(keep)
        source = self.vectors if vectors is None else vectors
        return MemoryIndex([self.item_ids[row] for row in rows], source[rows].copy())


@pytest.fixture
def small_catalogue():
    rng = np.random.default_rng(11)
    concepts, brands, dim = 60, 3, 24
    centres = rng.normal(size=(concepts, dim))
    groups = [f"concept-{i}" for i in range(concepts) for _ in range(brands)]
    makers = [f"brand-{j}" for _ in range(concepts) for j in range(brands)]
    vectors = unit(np.repeat(centres, brands, axis=0) + 0.8 * rng.normal(size=(concepts * brands, dim)))
    item_ids = [f"{maker}:{group}" for maker, group in zip(makers, groups, strict=True)]
    titles = [group.replace("-", " ") for group in groups]
    paths = [["thing", f"kind-{int(group.split('-')[1]) // 6}"] for group in groups]
    silver = pa.table({
        "item_id": item_ids, "content_hash": [hashlib.sha256(item.encode()).hexdigest() for item in item_ids],
        "group_id": groups, "category_path": paths, "title": titles,
    })  # fmt: skip
    return SmallCatalogue(item_ids, groups, makers, titles, vectors, silver)
