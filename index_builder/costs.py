"""Cost model of a recipe: memory, time of one query, time to build. Deliberately small, and checked against real files.

Rates are those of one core without AVX-512, rounded down, so that a choice made here holds on an ordinary server.
"""

import math
import re
from dataclasses import dataclass

from index_builder.lists import derive_nlist, fewest_items
from lookalike.contracts.errors import SettingsError
from lookalike.contracts.manifest import IndexRecipe

SCAN_BYTES_PER_MS = 4e6  # sequential compare
RANDOM_READ_MS = 2e-4  # a cache miss or two
GRAPH_INSERTS_PER_SECOND = 1_000  # one thread, 512 dimensions
MAX_GRAPH_BUILD_HOURS = 2.0
WANTED = 10  # results per query that the estimate is for
GRAPH_LEVELS = 1.07  # links of the upper levels on top of level 0
GRAPH_HEADER = 16  # level and offset of a node


@dataclass(frozen=True)
class Cost:
    """What a recipe would cost. `rank` orders by accuracy: 0 exact, 1 graph, 2 lists."""

    rank: int
    bytes_per_item: float
    memory_bytes: int
    query_ms: float
    build_hours: float
    fewest_items: int


def estimate(recipe: IndexRecipe, items: int, dim: int) -> Cost:
    """Cost of `recipe` for `items` vectors of `dim` dimensions. Raises SettingsError for a factory it cannot read."""
    if recipe.factory == "Flat":
        return _cost(0, 4.0 * dim, items, items * 4 * dim / SCAN_BYTES_PER_MS)
    graph = re.fullmatch(r"HNSW(\d+),Flat", recipe.factory)
    if graph:
        links = int(graph[1])
        visited = min(items, recipe.search["efSearch"] * links / 2)
        ms = visited * (RANDOM_READ_MS + 4 * dim / SCAN_BYTES_PER_MS)
        hours = items / GRAPH_INSERTS_PER_SECOND / 3600
        return _cost(1, 4.0 * dim + _link_bytes(links), items, ms, hours)
    lists = re.fullmatch(r"IVF\{nlist\}_HNSW(\d+),RaBitQfs,Refine\(SQ8\)", recipe.factory)
    if lists:
        return _lists_cost(recipe, items, dim, int(lists[1]))
    raise SettingsError(
        f"recipe {recipe.name}: no cost is known for factory {recipe.factory!r}; name the recipe itself"
    )


def explain(cost: Cost) -> str:
    """The cost in words."""
    return (
        f"about {cost.bytes_per_item:,.0f} bytes per item ({cost.memory_bytes / 2**20:,.0f} MiB in all) "
        f"and {cost.query_ms:.2g} ms per query"
    )


def short_of(cost: Cost, items: int, memory_bytes: int, latency_ms: float) -> str:
    """Which bound the cost breaks and what it would have to be, in words; empty when it fits."""
    if items < cost.fewest_items:
        return f"needs at least {cost.fewest_items:,} items to train on"
    if cost.memory_bytes > memory_bytes:
        return f"needs index.memory_bytes of {cost.memory_bytes:,}"
    if cost.query_ms > latency_ms:
        return f"needs index.latency_ms of {math.ceil(cost.query_ms * 10) / 10:g}"
    if cost.build_hours > MAX_GRAPH_BUILD_HOURS:
        return f"its graph would take about {cost.build_hours:.0f} hours to build in one thread"
    return ""


def _lists_cost(recipe: IndexRecipe, items: int, dim: int, links: int) -> Cost:
    nlist = recipe.nlist or derive_nlist(items, recipe.train_points_per_list)
    code = dim / 8 + 8 + 8  # sign bits, two float factors, the row number
    per_list = (4 * dim + _link_bytes(links) + 16 * (dim / 8 + 8)) if items else 0.0  # blocks are padded to 32 codes
    bytes_per_item = code + dim + per_list * nlist / max(items, 1)
    probed = min(recipe.search["nprobe"] / nlist, 1.0) * items
    ms = probed * dim / 8 / SCAN_BYTES_PER_MS * 4 + WANTED * recipe.search["k_factor"] * (
        RANDOM_READ_MS + dim / SCAN_BYTES_PER_MS
    )
    return _cost(2, bytes_per_item, items, ms, fewest=fewest_items(recipe.train_points_per_list))


def _link_bytes(links: int) -> float:
    return 4 * 2 * links * GRAPH_LEVELS + GRAPH_HEADER


def _cost(rank: int, per_item: float, items: int, ms: float, hours: float = 0.0, fewest: int = 1) -> Cost:
    return Cost(rank, per_item, math.ceil(per_item * items), ms, hours, fewest)
