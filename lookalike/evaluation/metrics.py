"""Retrieval metrics per query, as plain functions of arrays, so that means, intervals and pairings come after.

Every function returns one value per query. Formulas follow Manning, Raghavan, Schütze, Introduction to Information
Retrieval (2008), chapter 8; nDCG has gains 2^grade - 1 (Burges et al., 2005) over Järvelin and Kekäläinen (2002).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
Values = NDArray[np.float64]
Grades = NDArray[np.int64]

NO_ROW = -1
"""Marks a missing result in arrays of rows."""


def recall_at_k(found: Rows, exact: Rows, k: int) -> Values:
    """Share of the exact top k that an approximate search found; order and duplicates do not count.

    `found` and `exact` have shape (n, at least k), -1 for a missing row. A query whose exact list is empty gives NaN.
    """
    _require_depth(found, k, "found")
    _require_depth(exact, k, "exact")
    truth = exact[:, :k]
    valid = truth != NO_ROW
    hits = (found[:, :k, None] == truth[:, None, :]).any(axis=1) & valid
    return _ratio(hits.sum(axis=1), valid.sum(axis=1))


def hit_at_k(relevant: Mask, k: int) -> Values:
    """1 where at least one of the first k results is relevant, else 0 (instance retrieval's "R@k")."""
    _require_depth(relevant, k, "relevant")
    return np.asarray(relevant[:, :k].any(axis=1), dtype=np.float64)


def precision_at_k(relevant: Mask, k: int) -> Values:
    """Share of the first k places that hold a relevant result; an empty place counts as wrong."""
    _require_depth(relevant, k, "relevant")
    return np.asarray(relevant[:, :k].mean(axis=1), dtype=np.float64)


def reciprocal_rank(relevant: Mask) -> Values:
    """1 / rank of the first relevant result, 0 where there is none."""
    first = relevant.argmax(axis=1) + 1
    return np.asarray(relevant.any(axis=1) / first, dtype=np.float64)


def ndcg_at_k(grades: Grades, exact_total: Rows, related_total: Rows, k: int = 10) -> Values:
    """Graded nDCG@k with gain 2^grade - 1 and discount log2(rank + 1).

    `grades`, shape (n, at least k): 2 exact, 1 related, 0 other, of the results in order. `exact_total` and
    `related_total`, shape (n,): how many of each the gallery holds for the query, from which the best possible
    list follows. A query for which the gallery holds neither gives NaN.
    """
    _require_depth(grades, k, "grades")
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    gained = ((2.0 ** grades[:, :k] - 1.0) * discount).sum(axis=1)
    cumulative = np.concatenate([[0.0], np.cumsum(discount)])
    exact = np.minimum(exact_total, k)
    either = np.minimum(exact_total + related_total, k)
    ideal = 3.0 * cumulative[exact] + (cumulative[either] - cumulative[exact])
    return _ratio(gained, ideal)


def rank_of_first_relevant(scores: NDArray[np.float32], relevant: Mask, ignored: Mask) -> Rows:
    """Rank (from 1) of the best-scored relevant column in each row of `scores`; 0 where no column is relevant.

    All three have shape (n, gallery). Ignored columns take no place. Ties go against us: a wrong column with an equal
    score is counted as better, or an encoder that maps everything to one point would be perfect.
    """
    wanted = relevant & ~ignored
    best = np.where(wanted, scores, -np.inf).max(axis=1, keepdims=True)
    wrong_above = ((scores >= best) & ~relevant & ~ignored).sum(axis=1)
    return np.asarray(np.where(wanted.any(axis=1), wrong_above + 1, 0), dtype=np.int64)


def _ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> Values:
    whole = np.asarray(denominator, dtype=np.float64)
    return np.asarray(np.divide(numerator, whole, out=np.full(len(whole), np.nan), where=whole > 0))


def _require_depth(array: NDArray[Any], k: int, name: str) -> None:
    if k < 1 or array.ndim != 2 or array.shape[1] < k:
        raise ValueError(f"{name} has shape {array.shape}; a metric at k = {k} needs (queries, at least k), k from 1")
