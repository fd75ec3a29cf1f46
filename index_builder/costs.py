"""Costs: what a recipe takes for so many vectors: bytes, time of a search that finds enough, time of the build.

One model, for the choice of a recipe and for a plan. Bytes follow from the formats (`sizes.py`), search parameters from
a measured law (`recall_law.py`), time from a few rates of one core (`rates.py`). Checked against every index that was
built and measured at scale (docs/performance/points.json).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from index_builder.build_time import BuildTime
from index_builder.depths import NO_LIMIT, Tried, cheapest, graph_tried, lists_tried
from index_builder.list_codes import most_axes
from index_builder.lists import derive_nlist, fewest_items
from index_builder.query_time import cold_us, graph_us, lists_us, scan_us
from index_builder.rates import Rates, default_rates
from index_builder.recall_law import KINDS, Kind, RecallLaw, default_law
from index_builder.sizes import (
    ROW_NUMBER_BYTES,
    Codes,
    Columns,
    Sizes,
    code_bytes,
    sizes_of_lists,
    sizes_of_vectors,
)
from index_builder.tune import DEPTH
from lookalike.contracts.errors import SettingsError
from lookalike.contracts.manifest import IndexRecipe

__all__ = ["ROW_NUMBER_BYTES", "Columns", "Cost", "Latency", "Workload", "estimate", "list_bytes"]

COLUMNS = Columns(items=243.0, sets=19.0)
"""Of a catalogue with the usual columns, five of them to filter by (a million items of bench/scale.py)."""
FINER_STEP = 16
US_PER_MS = 1e3
CURVE_PROBES_MORE = 4
"""Tuning goes on for so many times the lists of what it chooses."""


@dataclass(frozen=True)
class Workload:
    """What is to be indexed and searched. `recall`: of the true ten, of each kind of query; None: all that is tried."""

    items: int
    dim: int
    recall: float | None = None
    columns: Columns = COLUMNS
    shards: int = 0
    """That the build is cut into; 0: as many as there are cores."""
    source_us: float | None = None
    """Of reading one vector; None: from the tables, by the rates."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one query at a time, on one core."""

    p50_ms: float
    p99_ms: float

    def later(self, more: "Latency") -> "Latency":
        """With what comes on top."""
        return Latency(self.p50_ms + more.p50_ms, self.p99_ms + more.p99_ms)


@dataclass(frozen=True)
class Cost:
    """What a recipe would take. `rank` orders by accuracy: 0 exact, 1 graph, 2 lists.

    `search` finds enough for both kinds of query, or as much as tuning tries; `recall`: what it finds of each kind;
    `by_kind`: what would do for queries of one kind alone. `warm`: of the kind that takes longest, `warm_by_kind`: of
    each; `cold`: of that kind with nothing of the finer codes in memory, None where there are none. `build`: seconds by
    step, on all cores of the rates.
    """

    rank: int
    recipe: IndexRecipe
    sizes: Sizes
    codes: Codes | None
    search: dict[str, int]
    recall: dict[Kind, float]
    by_kind: dict[Kind, dict[str, int]]
    warm: Latency
    warm_by_kind: dict[Kind, Latency]
    cold: Latency | None
    build: dict[str, float]
    fewest_items: int

    @property
    def memory_bytes(self) -> int:
        """Of the index; its process takes some more."""
        return self.sizes.memory

    @property
    def lowest_recall(self) -> float:
        """Of the two kinds."""
        return min(self.recall.values())

    @property
    def build_seconds(self) -> float:
        """All steps."""
        return sum(self.build.values())


def estimate(
    recipe: IndexRecipe,
    items: int,
    dim: int,
    workload: Workload | None = None,
    rates: Rates | None = None,
    law: RecallLaw | None = None,
    search: dict[str, int] | None = None,
) -> Cost:
    """Cost of `recipe` for `items` vectors of `dim` dimensions; `workload`, of as many, says more.

    `search`: parameters instead of those that hold the workload's recall. Raises SettingsError for a factory it cannot
    read.
    """
    model = _Model(recipe, workload or Workload(items, dim), rates or default_rates(), law or default_law(), search)
    graph = re.fullmatch(r"HNSW(\d+),Flat", recipe.factory)
    if graph:
        return model.of_graph(int(graph[1]))
    if recipe.factory == "Flat":
        return model.of_scan()
    if recipe.factory == "IVF{nlist},PQ{axes}x4fs,Refine(SQ8)":
        return model.of_lists()
    raise SettingsError(
        f"recipe {recipe.name}: no cost is known for factory {recipe.factory!r}; name the recipe itself"
    )


def list_bytes(recipe: IndexRecipe, dim: int) -> int:
    """Of one item's code in a list, at most: the trial may find that less does."""
    return code_bytes(most_axes(dim, recipe.code_bytes))


def expected_codes(recipe: IndexRecipe, dim: int, law: RecallLaw) -> Codes:
    """Those that the trial is expected to choose: as many axes as fit."""
    return Codes(most_axes(dim, recipe.code_bytes), min(-(-int(dim * law.finer_share) // FINER_STEP) * FINER_STEP, dim))


class _Model:
    def __init__(
        self, recipe: IndexRecipe, workload: Workload, rates: Rates, law: RecallLaw, search: dict[str, int] | None
    ) -> None:
        self._recipe, self._workload, self._rates, self._law, self._search = recipe, workload, rates, law, search
        self._items, self._dim = workload.items, workload.dim
        self._shards = workload.shards or rates.cores
        self._time = BuildTime(rates, self._items, self._dim, workload.source_us, self._shards)

    def of_scan(self) -> Cost:
        sizes = sizes_of_vectors(self._items, self._dim, self._workload.columns)
        everything = [Tried({}, self._items, dict.fromkeys(KINDS, 1.0))]
        warm = scan_us(self._rates, self._items, self._dim)
        build = self._time.of_vectors(sizes, graph=False)
        return self._cost(0, sizes, everything, build, dict.fromkeys(KINDS, warm))

    def of_graph(self, links: int) -> Cost:
        sizes = sizes_of_vectors(self._items, self._dim, self._workload.columns, links)
        tried = graph_tried(self._law, self._items, self._search)
        depth = min(self._chosen(tried, KINDS).search["efSearch"], self._items)
        build = self._time.of_vectors(sizes, graph=True)
        return self._cost(1, sizes, tried, build, dict.fromkeys(KINDS, graph_us(self._rates, depth, self._dim)))

    def of_lists(self) -> Cost:
        recipe, items = self._recipe, self._items
        nlist = recipe.nlist or derive_nlist(items, recipe.train_points_per_list)
        codes = expected_codes(recipe, self._dim, self._law)
        sizes = sizes_of_lists(items, self._dim, nlist, codes, self._workload.columns, self._shards)
        tried = lists_tried(self._law, items, nlist, sizes.finer, self._search)
        search = self._chosen(tried, KINDS).search
        nprobe, candidates = min(search["nprobe"], nlist), DEPTH * search["k_factor"]
        warm = {}
        for kind, law in self._law.kinds():
            probed = max(nprobe * law.within, 1.0)
            # Near a query lists are longer than elsewhere, as much as they are uneven.
            scanned = min(probed * items / nlist * self._law.imbalance, items)
            warm[kind] = lists_us(self._rates, nlist, self._dim, codes, nprobe, probed, scanned, candidates)
        build = self._time.of_lists(sizes, nlist, codes, recipe.train_points_per_list, CURVE_PROBES_MORE * nprobe)
        fewest = fewest_items(recipe.train_points_per_list)
        settled = recipe.model_copy(update={"nlist": nlist})
        return self._cost(2, sizes, tried, build, warm, cold_us(self._rates, candidates), fewest, codes, settled)

    def _chosen(self, tried: Sequence[Tried], kinds: Sequence[Kind]) -> Tried:
        wanted = NO_LIMIT if self._workload.recall is None else self._workload.recall
        return cheapest(tried, wanted, kinds)

    def _cost(
        self,
        rank: int,
        sizes: Sizes,
        tried: Sequence[Tried],
        build: dict[str, float],
        warm_us: dict[Kind, float],
        more_us: float | None = None,
        fewest: int = 1,
        codes: Codes | None = None,
        recipe: IndexRecipe | None = None,
    ) -> Cost:
        chosen, law = self._chosen(tried, KINDS), self._law
        warm = _latency(max(warm_us.values()), law.tail)
        return Cost(
            rank=rank,
            recipe=recipe or self._recipe,
            sizes=sizes,
            codes=codes,
            search=chosen.search,
            recall=chosen.recall,
            by_kind={kind: self._chosen(tried, (kind,)).search for kind in KINDS},
            warm=warm,
            warm_by_kind={kind: _latency(us, law.tail) for kind, us in warm_us.items()},
            cold=None if more_us is None else warm.later(_latency(more_us, law.cold_tail)),
            build=build,
            fewest_items=fewest,
        )


def _latency(us: float, tail: float) -> Latency:
    return Latency(us / US_PER_MS, us / US_PER_MS * tail)
