"""Ranking: one fixed order of results per query and release, whatever the page size, so that pages never overlap.

An approximate index asked for more results may also answer differently at the top. So results are found in tiers of
fixed depth: a deeper tier only appends what the tiers before did not have. Every page derives the same order anew.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lookalike.contracts.encoder import Vectors
from lookalike.contracts.query import MAX_DEPTH
from lookalike.contracts.sealed_index import Rows, SealedIndex
from lookalike.search.filters import Mask
from lookalike.search.fusion import cosines

TIERS = (64, 256, MAX_DEPTH)


@dataclass(frozen=True)
class Ranked:
    """Rows in final order; `scores` column 0 is the cosine to the fused query, the others those to each part."""

    rows: Rows
    scores: NDArray[np.float64]
    plan: Literal["index", "exact"]


def rank(
    index: SealedIndex,
    fused: Vectors,
    parts: Vectors,
    allowed: Mask | None,
    excluded: Rows,
    depth: int,
    id_of: Callable[[int], str],
) -> Ranked:
    """At least the first `depth` results (fewer where fewer pass), best first, equal scores by item id."""
    rows = np.empty(0, dtype=np.int64)
    scores = np.empty((0, 1 + len(parts)))
    plan: Literal["index", "exact"] = "exact"
    for tier in TIERS:
        wanted = tier + len(excluded)
        _, found, tier_plan = index.planned_search(fused[None], wanted, allowed)
        plan = "index" if "index" in (plan, tier_plan) else "exact"
        exhausted = bool((found[0] < 0).any())
        fresh = found[0][found[0] >= 0]
        fresh = fresh[~np.isin(fresh, np.concatenate([rows, excluded]))]
        if len(fresh):
            tier_scores = cosines(index.vectors(fresh), np.concatenate([fused[None], parts]))
            ids = np.array([id_of(int(row)) for row in fresh], dtype=object)
            order = np.array(sorted(range(len(fresh)), key=lambda at: (-tier_scores[at, 0], ids[at])))
            # Ties at a tier's end may be cut anywhere; the deeper tier brings the rest of them.
            rows = np.concatenate([rows, fresh[order]])
            scores = np.concatenate([scores, tier_scores[order]])
        if len(rows) >= depth or exhausted:
            break
    return Ranked(rows, scores, plan)
