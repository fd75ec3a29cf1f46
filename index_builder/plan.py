"""Plan of one search: compare every allowed row, or let the index search, and how deep.

With a share s of the rows allowed, a list probe or graph walk meets allowed rows s times as often, so it goes 1/s times
as deep; a deep page (large k) needs more candidates than the recipe's own settings give.
"""

import math
from dataclasses import dataclass

from lookalike.contracts.manifest import IndexRecipe

EXACT_ROWS = 20_000
"""So few rows are compared one by one: milliseconds, and no recall is lost."""
MAX_DEEPER = 32.0
"""Beyond this the index would cost more than it saves; what it then misses is compared exactly."""
CANDIDATES_PER_RESULT = 8


@dataclass(frozen=True)
class Plan:
    """`exact`: compare all allowed rows; else search with these parameters."""

    exact: bool
    search: dict[str, int]


def plan_search(recipe: IndexRecipe, items: int, matching: int, k: int, exact: bool) -> Plan:
    """Plan a search for k of `matching` allowed rows out of `items`."""
    base = recipe.search
    if exact or not base or (matching < items and matching <= EXACT_ROWS) or k >= matching:
        return Plan(True, {})
    deeper = min(items / matching, MAX_DEEPER)
    search = dict(base)
    if "efSearch" in base:
        search["efSearch"] = min(items, math.ceil(max(base["efSearch"], 2 * k) * deeper))
    if "nprobe" in base:
        nlist = recipe.nlist or 1
        per_list = matching / nlist
        enough = CANDIDATES_PER_RESULT * k / per_list
        search["nprobe"] = min(nlist, math.ceil(max(base["nprobe"] * deeper, enough)))
    if "k_factor" in base:
        search["k_factor"] = max(1, min(base["k_factor"], items // k))
    return Plan(False, search)
