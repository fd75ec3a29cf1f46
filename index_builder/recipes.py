"""Recipes: the ways to build an index, read from `recipes/*.toml`, and the choice among them.

The choice is an explicit cost model (`costs.py`) rather than a table of thresholds, so that its reason can be said in
words and a bound that is too low can be named.
"""

import math
import tomllib
from importlib.resources import files
from importlib.resources.abc import Traversable

from index_builder.bounds import Bounds, Check, broken, checks
from index_builder.costs import Cost, Workload, estimate
from index_builder.lists import derive_nlist, fewest_items
from index_builder.rates import Rates, default_rates
from lookalike.contracts.errors import LookalikeError, NotFound, SettingsError
from lookalike.contracts.manifest import IndexRecipe

AUTO = "auto"


def list_recipes() -> list[str]:
    """Names of all recipes, sorted."""
    return sorted(entry.name.removesuffix(".toml") for entry in _folder().iterdir() if entry.name.endswith(".toml"))


def load_recipe(name: str) -> IndexRecipe:
    """Read one recipe. Raises NotFound that lists the known ones."""
    known = list_recipes()
    if name not in known:
        raise NotFound(f"index recipe {name!r} does not exist; index.recipe is {AUTO} or one of: {', '.join(known)}")
    return IndexRecipe.model_validate(tomllib.loads((_folder() / f"{name}.toml").read_text()))


def load_all() -> list[IndexRecipe]:
    """Every recipe, by name."""
    return [load_recipe(name) for name in list_recipes()]


def ranked_costs(workload: Workload, rates: Rates, available: list[IndexRecipe] | None = None) -> list[Cost]:
    """What every recipe takes, the most accurate first."""
    recipes = load_all() if available is None else available
    costs = [estimate(recipe, workload.items, workload.dim, workload, rates) for recipe in recipes]
    return sorted(costs, key=lambda cost: cost.rank)


def choose(workload: Workload, bounds: Bounds, available: list[IndexRecipe] | None = None) -> tuple[IndexRecipe, str]:
    """The most accurate recipe that holds the bounds, and why in words.

    The bounds are those of the settings: `index.memory_bytes` is what the index may hold in memory, `index.latency_ms`
    what 99 of 100 queries may take on one core; columns are mapped from disk and not counted. Raises SettingsError that
    says which bound to raise, and to what.
    """
    ranked = [
        (cost, broken(checks(cost, workload.items, bounds)))
        for cost in ranked_costs(workload, default_rates(), available)
    ]
    fitting = [cost for cost, breaks in ranked if not breaks]
    about = f"{workload.items:,} items of {workload.dim} dimensions"
    budget = f"index.memory_bytes = {bounds.memory_bytes:,} and index.latency_ms = {bounds.p99_ms:g}"
    if not fitting:
        lines = [f"  {cost.recipe.name}: {_needs(breaks[0])}" for cost, breaks in ranked]
        raise SettingsError(
            f"no index recipe fits {about} within {budget}. Raise the bound that one of these names, or name a recipe "
            "in index.recipe:\n" + "\n".join(lines)
        )
    cost = fitting[0]
    why = (
        f"{cost.recipe.name} for {about}: about {cost.memory_bytes / workload.items:,.0f} bytes per item "
        f"({cost.memory_bytes / 2**20:,.0f} MiB in all) in memory and {cost.warm.p99_ms:.2g} ms per query, "
        f"within {budget}"
    )
    over = [
        f"{other.recipe.name} would not do: {_needs(breaks[0])}" for other, breaks in ranked if other.rank < cost.rank
    ]
    return cost.recipe, "; ".join([why, *over])


def settle(recipe: IndexRecipe, items: int) -> IndexRecipe:
    """The recipe with its number of lists decided. Raises LookalikeError when it cannot train on so few items."""
    if "{nlist}" not in recipe.factory:
        return recipe
    fewest = fewest_items(recipe.train_points_per_list)
    if items < fewest:
        raise LookalikeError(
            f"recipe {recipe.name} cannot be trained on {items:,} items: it needs at least {fewest:,} "
            f"({recipe.train_points_per_list} per list). Choose recipe exact or hnsw, or leave index.recipe = auto."
        )
    nlist = recipe.nlist or derive_nlist(items, recipe.train_points_per_list)
    return recipe.model_copy(update={"nlist": nlist})


def _needs(check: Check) -> str:
    """What a bound would have to be, in words of the settings."""
    match check.bound:
        case "items":
            return f"needs at least {check.allowed:,.0f} items to train on"
        case "memory":
            return f"needs index.memory_bytes of {check.expected:,.0f}"
        case "p99":
            return f"needs index.latency_ms of {math.ceil(check.expected * 10) / 10:g}"
        case "graph":
            return f"its graph would take about {check.expected / 3_600:.0f} hours to build in one thread"
        case _:
            return f"{check.bound} of {check.expected:g} where {check.allowed:g} is allowed"


def _folder() -> Traversable:
    return files("index_builder") / "recipes"
