"""Depths: search parameters that tuning is expected to choose, by the recall law and by tuning's count of the work."""

from collections.abc import Sequence
from dataclasses import dataclass

from index_builder.plan import COLD_ROW_WORK, ROW_WORK
from index_builder.recall_law import Kind, RecallLaw
from index_builder.tune import CACHED_BYTES, DEPTH, FACTORS, GRAPH_DEPTHS, PROBES

NO_LIMIT = 2.0
"""More than any recall."""


@dataclass(frozen=True)
class Tried:
    """A setting, its work in codes scanned, and the share of the true ten that it should find of each kind."""

    search: dict[str, int]
    work: float
    recall: dict[Kind, float]

    def lowest(self, kinds: Sequence[Kind]) -> float:
        """Of these kinds."""
        return min(self.recall[kind] for kind in kinds)


Search = dict[str, int]


def lists_tried(law: RecallLaw, items: int, nlist: int, finer_bytes: int, only: Search | None = None) -> list[Tried]:
    """Every setting of an index with lists, or that one, cheapest first."""
    cold = max(0.0, 1 - CACHED_BYTES / max(finer_bytes, 1))
    refined = DEPTH * (ROW_WORK + cold * (COLD_ROW_WORK - ROW_WORK))
    probes = [nprobe for nprobe in PROBES if nprobe <= nlist]
    factors = [factor for factor in FACTORS if factor * DEPTH <= items or factor == 1]
    found = []
    for search in [only] if only else [{"nprobe": n, "k_factor": k} for n in probes for k in factors]:
        recall = {kind: known.of_lists(search, items, nlist) for kind, known in law.kinds()}
        work = search["nprobe"] * items / nlist + search["k_factor"] * refined
        found.append(Tried(search, work, recall))
    return sorted(found, key=lambda each: each.work)


def graph_tried(law: RecallLaw, items: int, only: Search | None = None) -> list[Tried]:
    """Every setting of a graph, or that one, cheapest first."""
    return [
        Tried({"efSearch": depth}, depth, {kind: known.of_graph(depth, items) for kind, known in law.kinds()})
        for depth in ([only["efSearch"]] if only else GRAPH_DEPTHS)
    ]


def cheapest(tried: Sequence[Tried], recall: float, kinds: Sequence[Kind]) -> Tried:
    """That holds the recall for these kinds; the one that finds most if none does."""
    for each in tried:
        if each.lowest(kinds) >= recall:
            return each
    return max(tried, key=lambda each: each.lowest(kinds))
