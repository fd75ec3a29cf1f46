"""Ranking: one fixed order of results per query and release, whatever the page size, so that pages never overlap.

An approximate index asked for more results may also answer differently at the top. So results are found in tiers of
fixed depth: a deeper tier only appends what the tiers before did not have. Every page derives the same order anew.
Changes between two pages may move it; then a page begins after the last item of the page before.
"""

import bisect
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lookalike.contracts.encoder import Vectors
from lookalike.contracts.query import MAX_DEPTH
from lookalike.contracts.sealed_index import Rows
from lookalike.search.cursor import Last
from lookalike.search.fusion import cosines
from lookalike.search.merged import Allowed, Merged

TIERS = (64, 256, MAX_DEPTH)


@dataclass(frozen=True)
class Ranked:
    """Rows in final order; `scores` column 0 is the cosine to the fused query, the others those to each part.

    `ids` are the rows' items, `ends` where each tier ends; within a tier the order is by score, then id.
    """

    rows: Rows
    scores: NDArray[np.float64]
    ids: tuple[str, ...]
    ends: tuple[int, ...]
    plan: Literal["index", "exact"]

    def after(self, last: Last, depth: int) -> int:
        """Where to go on when `last` was the last of `depth` results given, whatever has changed since.

        That is after `last` itself; where it is not found any more, where it would stand. Of an exact ranking that
        is one place. An approximate one has one in each tier: then it is that of the tier that `depth` lies in.
        """
        keys = [(-float(score), item_id) for score, item_id in zip(self.scores[:, 0], self.ids, strict=True)]
        key = (-last.score, last.item_id)
        if key in keys:
            return keys.index(key) + 1
        if self.plan == "exact":
            return bisect.bisect_right(keys, key)
        start = 0
        for end in self.ends:
            at = bisect.bisect_right(keys, key, start, end)
            if end >= depth and at < end:
                return at
            start = end
        return len(keys)


def rank(merged: Merged, fused: Vectors, parts: Vectors, allowed: Allowed | None, excluded: Rows, depth: int) -> Ranked:
    """At least the first `depth` results (fewer where fewer pass), best first, equal scores by item id."""
    rows = np.empty(0, dtype=np.int64)
    scores = np.empty((0, 1 + len(parts)))
    ids: list[str] = []
    ends: list[int] = []
    plan: Literal["index", "exact"] = "exact"
    for tier in TIERS:
        wanted = tier + len(excluded)
        found = merged.nearest(fused, wanted, allowed)
        plan = "index" if "index" in (plan, found.plan) else "exact"
        new = ~np.isin(found.rows, np.concatenate([rows, excluded]))
        fresh = found.rows[new]
        if len(fresh):
            tier_scores = cosines(found.vectors[new], np.concatenate([fused[None], parts]))
            tier_ids = [merged.item_id(int(row)) for row in fresh]
            order = sorted(range(len(fresh)), key=lambda at: (-tier_scores[at, 0], tier_ids[at]))
            # Ties at a tier's end may be cut anywhere; the deeper tier brings the rest of them.
            rows = np.concatenate([rows, fresh[order]])
            scores = np.concatenate([scores, tier_scores[order]])
            ids += [tier_ids[at] for at in order]
        ends.append(len(rows))
        if len(rows) >= depth or len(found.rows) < wanted:
            break
    return Ranked(rows, scores, tuple(ids), tuple(ends), plan)
