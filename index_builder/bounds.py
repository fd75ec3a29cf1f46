"""Bounds: what a recipe may take, and which of these a cost holds or breaks, and by how much."""

from dataclasses import dataclass
from typing import Literal

from index_builder.costs import Cost

Bound = Literal["items", "memory", "disk", "recall", "p99", "build", "graph"]
MAX_GRAPH_SECONDS = 2 * 3_600
"""One thread makes a graph: longer than this it may not take, whatever else is allowed."""


@dataclass(frozen=True)
class Bounds:
    """Bytes, milliseconds, seconds; None: any. `process_bytes`: of the memory, what the process itself takes."""

    memory_bytes: int
    p99_ms: float
    recall: float | None = None
    disk_bytes: int | None = None
    build_seconds: float | None = None
    process_bytes: int = 0


@dataclass(frozen=True)
class Check:
    """One bound: what is allowed and what is expected, in the same unit."""

    bound: Bound
    allowed: float
    expected: float

    @property
    def held(self) -> bool:
        """Whether it is enough."""
        if self.bound in {"recall", "items"}:
            return self.expected >= self.allowed
        return self.expected <= self.allowed


def checks(cost: Cost, items: int, bounds: Bounds) -> tuple[Check, ...]:
    """Of one recipe, those that are always looked at first."""
    found = [
        Check("items", cost.fewest_items, items),
        Check("memory", bounds.memory_bytes, cost.memory_bytes + bounds.process_bytes),
        Check("p99", bounds.p99_ms, cost.warm.p99_ms),
    ]
    if bounds.recall is not None:
        found.append(Check("recall", bounds.recall, cost.lowest_recall))
    if bounds.disk_bytes is not None:
        found.append(Check("disk", bounds.disk_bytes, cost.sizes.peak))
    if bounds.build_seconds is not None:
        found.append(Check("build", bounds.build_seconds, cost.build_seconds))
    if "efSearch" in cost.recipe.search:
        found.append(Check("graph", MAX_GRAPH_SECONDS, cost.build["merge"]))
    return tuple(found)


def broken(found: tuple[Check, ...]) -> tuple[Check, ...]:
    """Those that do not hold."""
    return tuple(check for check in found if not check.held)
