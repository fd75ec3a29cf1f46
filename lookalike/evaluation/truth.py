"""Recall of an index against brute force over the vectors that the embeddings table holds at the pinned version.

The table, not the candidate, is the truth: an index that holds wrong vectors would agree with itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lookalike.contracts.encoder import Vectors
from lookalike.contracts.sealed_index import SealedIndex
from lookalike.evaluation.metrics import NO_ROW, Mask, Rows, Values
from lookalike.evaluation.ranking import top_k

BLOCK = 8_192
MAX_COMPARED = 200_000
TIE = 1e-6
"""Two float32 inner products closer than this are one score: equal pictures may answer in any order."""


@dataclass(frozen=True)
class Reference:
    """What an index should hold: item ids and unit vectors, shape (n, dim), of the table (an array or a memory map)."""

    item_ids: Sequence[str]
    vectors: Vectors

    def rows_in(self, item_ids: Sequence[str]) -> Rows:
        """Row of each id in the reference, -1 where it has none."""
        place = {item_id: row for row, item_id in enumerate(self.item_ids)}
        return np.array([place.get(item_id, NO_ROW) for item_id in item_ids], dtype=np.int64)


@dataclass(frozen=True)
class Coverage:
    """Items of an index against its reference: how many it holds, lacks, holds too much and holds twice."""

    items: int
    missing: int
    foreign: int
    duplicates: int


def exact_top_k(vectors: Vectors, queries: Vectors, k: int, block: int = BLOCK) -> tuple[Vectors, Rows]:
    """Scores and rows of the k largest inner products per query, best first; `vectors` is read block by block."""
    scores = np.zeros((len(queries), 0), dtype=np.float32)
    rows = np.zeros((len(queries), 0), dtype=np.int64)
    for start in range(0, len(vectors), block):
        part = queries @ np.asarray(vectors[start : start + block]).T
        near = top_k(part, k)
        scores = np.concatenate([scores, np.take_along_axis(part, near, axis=1)], axis=1)
        rows = np.concatenate([rows, near + start], axis=1)
        best = top_k(scores, k)
        scores, rows = np.take_along_axis(scores, best, axis=1), np.take_along_axis(rows, best, axis=1)
    return scores, rows


def recall_per_query(
    index: SealedIndex, reference: Reference, queries: Vectors, k: int, itself: Rows | None = None
) -> Values:
    """Share of the exact top k of each query that the index finds, shape (n,).

    `itself` names the reference row that a query was made of (-1: none); it is left out of both lists, or every
    query would have one easy hit. A found item counts when its score, recomputed from the reference, reaches the k-th
    exact score; without ties this is the share of common ids. NaN or infinity in queries or reference gives NaN.
    """
    if not (np.isfinite(queries).all() and np.isfinite(reference.vectors).all()):
        return np.full(len(queries), np.nan)
    own = np.full(len(queries), NO_ROW) if itself is None else itself
    exact_scores, exact_rows = exact_top_k(reference.vectors, queries, k + 1)
    found = _found_rows(index, reference, queries, k + 1)
    shares = np.full(len(queries), np.nan)
    for i, query in enumerate(queries):
        wanted = exact_scores[i][exact_rows[i] != own[i]][:k]
        kept = [row for row in dict.fromkeys(found[i].tolist()) if row not in {NO_ROW, own[i]}][:k]
        if len(wanted):
            right = int((reference.vectors[kept] @ query >= wanted[-1] - TIE).sum())
            shares[i] = min(right, len(wanted)) / len(wanted)
    return shares


def coverage(index: SealedIndex, reference: Reference) -> Coverage:
    """Count items of the index by their ids against the reference."""
    held = index.columns.column("item_id").to_pylist()
    distinct, wanted = set(held), set(reference.item_ids)
    return Coverage(len(held), len(wanted - distinct), len(distinct - wanted), len(held) - len(distinct))


def lowest_stored_cosine(index: SealedIndex, reference: Reference, seed: int) -> float:
    """Smallest cosine between a vector as the index holds it and as the table does; NaN when one is not finite.

    All common items up to MAX_COMPARED, a seeded sample of them beyond. Quantised codes stay above 0.98 or so; a
    vector of another item or another space falls to any value.
    """
    place = reference.rows_in(index.columns.column("item_id").to_pylist())
    common = np.flatnonzero(place != NO_ROW)
    if len(common) > MAX_COMPARED:
        common = np.sort(np.random.default_rng(seed).choice(common, MAX_COMPARED, replace=False))
    lowest = [lowest_cosine(index.vectors(part), reference.vectors[place[part]]) for part in _blocks(common)]
    return float(np.min(lowest)) if lowest else float("nan")


def lowest_cosine(ours: Vectors, theirs: Vectors) -> float:
    """Smallest cosine between rows of two arrays of one shape (n, dim); NaN when one is not finite or none is given.

    Also for stored vectors against the same pictures encoded again: a stamp can lie, this cannot.
    """
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = np.einsum("nd,nd->n", ours, theirs) / lengths
    return float(cosines.min()) if len(cosines) else float("nan")


def _found_rows(index: SealedIndex, reference: Reference, queries: Vectors, k: int) -> Rows:
    """Rows of the reference that the index finds; -1 for missing results and for items the reference lacks."""
    _, rows = index.search(queries, k)
    place = reference.rows_in(index.columns.column("item_id").to_pylist())
    missing: Mask = rows == NO_ROW
    return np.where(missing, NO_ROW, place[np.where(missing, 0, rows)])


def _blocks(rows: Rows, size: int = 8_192) -> list[Rows]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
