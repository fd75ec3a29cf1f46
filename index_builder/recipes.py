"""Recipes: the ways to build an index, read from `recipes/*.toml`, and the choice among them.

The choice is a small explicit cost model (`costs.py`) rather than a table of thresholds, so that its reason can be
said in words and a bound that is too low can be named.
"""

import tomllib
from importlib.resources import files
from importlib.resources.abc import Traversable

from index_builder.costs import Cost, estimate, explain, short_of
from index_builder.lists import derive_nlist, fewest_items
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


def choose(
    items: int, dim: int, memory_bytes: int, latency_ms: float, available: list[IndexRecipe] | None = None
) -> tuple[IndexRecipe, str]:
    """The most accurate recipe that fits the budgets, and why in words.

    `memory_bytes` is what the index may hold in memory, `latency_ms` what one query on one core may take; columns are
    mapped from disk and not counted. Raises SettingsError that says which bound to raise, and to what.
    """
    recipes = load_all() if available is None else available
    ranked = sorted(((estimate(recipe, items, dim), recipe) for recipe in recipes), key=lambda pair: pair[0].rank)
    fitting = [(cost, recipe) for cost, recipe in ranked if not short_of(cost, items, memory_bytes, latency_ms)]
    if not fitting:
        raise SettingsError(_nothing_fits(ranked, items, dim, memory_bytes, latency_ms))
    cost, recipe = fitting[0]
    passed_over = [
        f"{other.name} would not do: {short_of(other_cost, items, memory_bytes, latency_ms)}"
        for other_cost, other in ranked
        if other_cost.rank < cost.rank
    ]
    budget = _budget(memory_bytes, latency_ms)
    why = f"{recipe.name} for {items:,} items of {dim} dimensions: {explain(cost)}, within {budget}"
    return recipe, "; ".join([why, *passed_over])


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


def _nothing_fits(
    ranked: list[tuple[Cost, IndexRecipe]], items: int, dim: int, memory_bytes: int, latency_ms: float
) -> str:
    lines = [
        f"no index recipe fits {items:,} items of {dim} dimensions within {_budget(memory_bytes, latency_ms)}. "
        f"Raise the bound that one of these names, or name a recipe in index.recipe:"
    ]
    lines += [f"  {recipe.name}: {short_of(cost, items, memory_bytes, latency_ms)}" for cost, recipe in ranked]
    return "\n".join(lines)


def _budget(memory_bytes: int, latency_ms: float) -> str:
    return f"index.memory_bytes = {memory_bytes:,} and index.latency_ms = {latency_ms:g}"


def _folder() -> Traversable:
    return files("index_builder") / "recipes"
