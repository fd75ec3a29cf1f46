"""Rank a gallery for many queries in blocks: 8,000 x 8,000 scores never lie in memory at once."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.contracts.encoder import Vectors
from lookalike.contracts.errors import LookalikeError
from lookalike.evaluation.metrics import Mask, Rows, Values, ndcg_at_k, rank_of_first_relevant
from lookalike.evaluation.relevance import grade

BLOCK = 512
DEPTH = 10


@dataclass(frozen=True)
class Relation:
    """What each gallery column is to each query of a block; all of shape (block, gallery).

    Ignored columns (the query itself, for example) are neither right nor wrong and take no place in the ranking.
    """

    relevant: Mask
    ignored: Mask
    related: Mask | None = None


Relate = Callable[[NDArray[np.int64]], Relation]
"""Positions of some queries (0..n-1) -> their relation to the gallery."""


@dataclass(frozen=True)
class Ranked:
    """Per query: rank of the first relevant (0: the gallery has none), graded nDCG@10, number of relevant columns."""

    first_rank: Rows
    ndcg: Values | None
    relevant_total: Rows
    considered: Rows

    @property
    def counted(self) -> Mask:
        """Queries for which the gallery holds something relevant."""
        return self.relevant_total > 0


def require_finite(vectors: Vectors, what: str) -> None:
    """Raise LookalikeError when a vector has NaN or infinity: comparisons with NaN would look like success."""
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        raise LookalikeError(
            f"{what}: {int(bad.sum())} of {len(vectors)} vectors hold NaN or infinity (first at row "
            f"{int(bad.argmax())}). The encoder or the stored table is broken; nothing can be measured on it."
        )


def top_k(scores: NDArray[np.float32], k: int) -> Rows:
    """Columns of the k highest scores per row, best first; equal scores in the order of the columns."""
    depth = min(k, scores.shape[1])
    near = np.sort(np.argpartition(-scores, depth - 1, axis=1)[:, :depth], axis=1)
    order = np.argsort(-np.take_along_axis(scores, near, axis=1), axis=1, kind="stable")
    return np.take_along_axis(near, order, axis=1).astype(np.int64)


def rank(queries: Vectors, gallery: Vectors, relate: Relate, block: int = BLOCK) -> Ranked:
    """Rank all of `gallery`, shape (m, dim), by inner product for each of `queries`, shape (n, dim)."""
    require_finite(queries, "queries")
    require_finite(gallery, "gallery")
    first, totals, considered, gains = [], [], [], []
    for start in range(0, len(queries), block):
        positions = np.arange(start, min(start + block, len(queries)))
        relation = relate(positions)
        scores = queries[positions] @ gallery.T
        first.append(rank_of_first_relevant(scores, relation.relevant, relation.ignored))
        totals.append((relation.relevant & ~relation.ignored).sum(axis=1))
        considered.append((~relation.ignored).sum(axis=1))
        if relation.related is not None:
            gains.append(_ndcg(scores, relation, relation.related))
    return Ranked(_joined(first), np.concatenate(gains) if gains else None, _joined(totals), _joined(considered))


def _ndcg(scores: NDArray[np.float32], relation: Relation, related: Mask) -> Values:
    grades = np.where(relation.ignored, 0, grade(relation.relevant, related))
    best = top_k(np.where(relation.ignored, -np.inf, scores), DEPTH)
    found = np.take_along_axis(grades, best, axis=1)
    found = np.pad(found, ((0, 0), (0, max(0, DEPTH - found.shape[1]))))
    return ndcg_at_k(found, (grades == 2).sum(axis=1), (grades == 1).sum(axis=1), DEPTH)


def _joined(parts: list[Rows]) -> Rows:
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, dtype=np.int64)
