"""Plan of one search: compare every allowed row, or let the index search, by what each would cost.

Costs are counted in rows of short codes that a list scan computes (some 5 ns each with 512 dimensions).
"""

import math
from dataclasses import dataclass

from index_builder.allowed_lists import MARGIN
from lookalike.contracts.manifest import IndexRecipe

FEW_ROWS = 1_000
"""So few rows are compared one by one whatever else would cost: a millisecond, and no recall is lost."""
ROW_WORK = 40.0
"""One row gathered, decoded and compared, from memory (measured: 0.2 µs)."""
COLD_ROW_WORK = 3_200.0
"""The same from a disk that is asked for all rows at once (16 µs: bench/cold_reads.py)."""
STEP_WORK = 500.0
"""One row whose neighbours a graph walk looks at (measured: 2.3 µs)."""
CANDIDATES_PER_RESULT = 8
MORE_CANDIDATES = 4
"""With a filter: away from the query, short codes tell allowed rows apart less surely."""


@dataclass(frozen=True)
class Plan:
    """`exact`: compare all allowed rows; else search with these parameters, as for a search without a filter."""

    exact: bool
    search: dict[str, int]


def plan_search(
    recipe: IndexRecipe, items: int, matching: int, k: int, exact: bool, row_work: float = ROW_WORK
) -> Plan:
    """Plan a search for k of `matching` allowed rows out of `items`; `row_work`: what comparing one of them costs."""
    base = recipe.search
    if exact or not base or k >= matching:
        return Plan(True, {})
    search = dict(base)
    if "efSearch" in base:
        search["efSearch"] = min(items, max(base["efSearch"], 2 * k))
    if "nprobe" in base:
        nlist = recipe.nlist or 1
        enough = CANDIDATES_PER_RESULT * k * nlist / items
        search["nprobe"] = min(nlist, math.ceil(max(base["nprobe"], enough)))
    if "k_factor" in base:
        search["k_factor"] = max(1, min(base["k_factor"], items // k))
    compared = matching * row_work
    cheaper = matching <= FEW_ROWS or compared <= index_work(recipe, search, items, matching, k, row_work)
    return Plan(True, {}) if matching < items and cheaper else Plan(False, search)


def index_work(
    recipe: IndexRecipe, search: dict[str, int], items: int, matching: int, k: int, row_work: float = ROW_WORK
) -> float:
    """What the index would cost if the allowed rows were spread evenly."""
    deeper = items / matching
    if "nprobe" in search:
        seen = MARGIN * search["nprobe"] * items / (recipe.nlist or 1)
        return min(seen * deeper, items) + MORE_CANDIDATES * k * search.get("k_factor", 0) * row_work
    return search["efSearch"] * deeper * STEP_WORK
