"""Plan: which recipe would serve so many vectors within given bounds, and what it would take. Nothing is read or built.

Figures are those of the cost model by which `lookalike build` chooses too (`index_builder/costs.py`).
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from index_builder.bounds import Bounds, Check, checks
from index_builder.costs import COLUMNS, Columns, Cost, Latency, Workload, estimate
from index_builder.rates import Rates, default_rates, read_rates
from index_builder.recipes import ranked_costs
from index_builder.sizes import ROW_NUMBER_BYTES, code_bytes
from lookalike.line.quantities import as_bytes, as_time

MS_PER_S = 1e3
RECALL_STEP = 0.005
"""As fine as the recall is told that a broken bound of time would leave."""


@dataclass(frozen=True)
class PlannedCheck:
    """One bound of one recipe. `change`: what would have to change where it is broken, else empty."""

    bound: str
    held: bool
    allowed: str
    expected: str
    change: str


@dataclass(frozen=True)
class PlannedRecipe:
    """What one recipe would take. Bytes are of the whole index but `_per_vector`; latencies of one query on one core,
    of the kind of query that takes longest but `_by_kind`.

    `steady`: with as many of the finer codes in memory as the bound leaves room for. `build_seconds`: by step.
    """

    recipe: str
    holds: bool
    checks: tuple[PlannedCheck, ...]
    lists: int | None
    codes: dict[str, int] | None
    memory_bytes: int
    process_bytes: int
    disk_bytes: int
    disk_bytes_at_peak: int
    memory_per_vector: float
    disk_per_vector: float
    files: dict[str, int]
    search: dict[str, int]
    recall: dict[str, float]
    search_by_kind: dict[str, dict[str, int]]
    warm: Latency
    warm_by_kind: dict[str, Latency]
    steady: Latency | None
    cold: Latency | None
    in_memory_when_steady: float | None
    build_seconds: dict[str, float]
    build_seconds_in_all: float


@dataclass(frozen=True)
class PlanReport:
    """Every recipe, the most accurate first; `chosen`: the first that holds all bounds, None when none does."""

    chosen: str | None
    items: int
    dim: int
    machine: str
    cores: int
    recipes: tuple[PlannedRecipe, ...]

    @property
    def choice(self) -> PlannedRecipe | None:
        """The chosen one."""
        return next((each for each in self.recipes if each.recipe == self.chosen), None)


def columns_of(each: float | None) -> Columns:
    """Of items whose columns and sets take so many bytes each; None: as a usual catalogue's."""
    return COLUMNS if each is None else Columns(each * COLUMNS.items / COLUMNS.each, each * COLUMNS.sets / COLUMNS.each)


def rates_of(path: Path | None) -> Rates:
    """In this file, or those that come with the package. Raises SettingsError for a file that has none."""
    return default_rates() if path is None else read_rates(path)


def plan(workload: Workload, bounds: Bounds, rates: Rates) -> PlanReport:
    """All recipes against the bounds."""
    planned = tuple(_planned(cost, workload, bounds, rates) for cost in ranked_costs(workload, rates))
    chosen = next((each.recipe for each in planned if each.holds), None)
    return PlanReport(chosen, workload.items, workload.dim, rates.machine, rates.cores, planned)


def _planned(cost: Cost, workload: Workload, bounds: Bounds, rates: Rates) -> PlannedRecipe:
    found = checks(cost, workload.items, bounds)
    sizes, nlist = cost.sizes, cost.recipe.nlist
    names = {"index": sizes.index, "centres": sizes.centres, "finer": sizes.finer, "items": sizes.items}
    steady, share = _steady(cost, bounds)
    codes = None if cost.codes is None else {
        "axes": cost.codes.axes, "finer_axes": cost.codes.finer_axes,
        "bytes": code_bytes(cost.codes.axes) + ROW_NUMBER_BYTES,
    }  # fmt: skip
    return PlannedRecipe(
        recipe=cost.recipe.name,
        holds=all(check.held for check in found),
        checks=tuple(_said(check, cost, workload, rates) for check in found),
        lists=nlist,
        codes=codes,
        memory_bytes=cost.memory_bytes + bounds.process_bytes,
        process_bytes=bounds.process_bytes,
        disk_bytes=sizes.disk,
        disk_bytes_at_peak=sizes.peak,
        memory_per_vector=round(cost.memory_bytes / workload.items, 2),
        disk_per_vector=round(sizes.disk / workload.items, 2),
        files=names | {"sets": sizes.sets},
        search=cost.search,
        recall={kind: round(share, 4) for kind, share in cost.recall.items()},
        search_by_kind={str(kind): search for kind, search in cost.by_kind.items()},
        warm=_rounded(cost.warm),
        warm_by_kind={str(kind): _rounded(latency) for kind, latency in cost.warm_by_kind.items()},
        steady=steady,
        cold=None if cost.cold is None else _rounded(cost.cold),
        in_memory_when_steady=share,
        build_seconds={step: round(seconds, 1) for step, seconds in cost.build.items()},
        build_seconds_in_all=round(cost.build_seconds, 1),
    )


def _steady(cost: Cost, bounds: Bounds) -> tuple[Latency | None, float | None]:
    """Between warm and cold, by the share of the finer codes that memory has room for; and that share."""
    if cost.cold is None or not cost.sizes.finer:
        return None, None
    room = bounds.memory_bytes - bounds.process_bytes - cost.memory_bytes
    share = min(max(room / cost.sizes.finer, 0.0), 1.0)
    p50, p99 = (
        share * warm + (1 - share) * cold
        for warm, cold in ((cost.warm.p50_ms, cost.cold.p50_ms), (cost.warm.p99_ms, cost.cold.p99_ms))
    )
    return _rounded(Latency(p50, p99)), round(share, 3)


def _said(check: Check, cost: Cost, workload: Workload, rates: Rates) -> PlannedCheck:
    """A check in words and units."""
    allowed, expected = (_in_units(check.bound, value) for value in (check.allowed, check.expected))
    change = "" if check.held else _change(check, expected)
    if check.bound == "p99" and not check.held and cost.search:
        recall = _recall_within(check.allowed, cost, workload, rates)
        change += f", or a recall of {recall:.3f}" if recall else "; no recall is found in less"
    return PlannedCheck(check.bound, check.held, allowed, expected, change)


def _recall_within(p99_ms: float, cost: Cost, workload: Workload, rates: Rates) -> float:
    """The most, in steps of RECALL_STEP, that is expected within this time; 0 where none is."""
    low, high = 0, round(1 / RECALL_STEP)
    while low < high:
        middle = (low + high + 1) // 2
        asked = replace(workload, recall=middle * RECALL_STEP)
        less = estimate(cost.recipe, workload.items, workload.dim, asked, rates)
        low, high = (middle, high) if less.warm.p99_ms <= p99_ms else (low, middle - 1)
    return low * RECALL_STEP


def _in_units(bound: str, value: float) -> str:
    match bound:
        case "memory" | "disk":
            return as_bytes(value)
        case "p99":
            return as_time(value / MS_PER_S)
        case "build" | "graph":
            return as_time(value)
        case "recall":
            return f"{value:.3f}"
        case _:
            return f"{value:,.0f}"


def _change(check: Check, expected: str) -> str:
    """What would have to change for a broken bound to hold."""
    match check.bound:
        case "items":
            return f"needs {check.allowed:,.0f} items to train on"
        case "recall":
            return f"ask for a recall of {expected} or less: nothing deeper is tried"
        case "graph":
            return f"its graph is made by one thread, in {expected}; {_in_units('graph', check.allowed)} is the most"
        case "p99":
            return f"allow --p99 {expected.replace(' ', '')}"
        case _:
            return f"allow --{check.bound} {expected.replace(' ', '')}"


def one_line(report: PlanReport) -> str:
    """The choice, or what each recipe breaks."""
    about = f"{report.items:,} vectors of {report.dim} dimensions"
    chosen = report.choice
    if chosen is None:
        lines = [f"no recipe holds these bounds for {about}; what would have to change:"]
        for each in report.recipes:
            broken = [f"{check.bound} ({check.change})" for check in each.checks if not check.held]
            lines.append(f"  {each.recipe}: {'; '.join(broken)}")
        return "\n".join(lines)
    settings = ", ".join(f"{name} {value}" for name, value in chosen.search.items()) or "no search parameters"
    return (
        f"{chosen.recipe} for {about}: {as_bytes(chosen.memory_bytes)} of memory, {as_bytes(chosen.disk_bytes)} of "
        f"disk, built in {as_time(chosen.build_seconds_in_all)} on {report.cores} cores, p99 "
        f"{chosen.warm.p99_ms:.3g} ms warm with {settings}"
    )


def rows_of(each: PlannedRecipe) -> list[tuple[Any, ...]]:
    """What a recipe would take, for a table: (what, figure)."""
    lists = []
    if each.codes is not None:
        in_memory = f"{each.codes['axes']} axes of 4 bits in memory"
        lists = [("lists", f"{each.lists:,}"), ("codes", f"{in_memory}, {each.codes['finer_axes']} of 8 on disk")]
    by_kind = "; ".join(f"{kind} alone: {_settings(search)}" for kind, search in each.search_by_kind.items())
    times = [(f"latency of {kind}, warm", _latency(latency)) for kind, latency in each.warm_by_kind.items()]
    if each.steady is not None and each.cold is not None and each.in_memory_when_steady is not None:
        times += [
            (f"latency, {each.in_memory_when_steady:.0%} of the finer codes in memory", _latency(each.steady)),
            ("latency, cold", _latency(each.cold)),
        ]
    steps = ", ".join(f"{step} {as_time(seconds)}" for step, seconds in each.build_seconds.items() if seconds)
    return [
        *lists,
        ("bytes per vector", f"{each.memory_per_vector:,.0f} in memory, {each.disk_per_vector:,.0f} on disk"),
        ("memory", f"{as_bytes(each.memory_bytes)}, of it {as_bytes(each.process_bytes)} the process"),
        ("disk", f"{as_bytes(each.disk_bytes)}, {as_bytes(each.disk_bytes_at_peak)} while it is built"),
        ("build", f"{as_time(each.build_seconds_in_all)}: {steps}"),
        ("search", f"{_settings(each.search)} ({by_kind})" if each.search else "every vector is compared"),
        ("recall@10", ", ".join(f"{kind} {share:.3f}" for kind, share in each.recall.items())),
        *times,
    ]


def _settings(search: dict[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in search.items())


def _latency(latency: Latency) -> str:
    return f"p50 {latency.p50_ms:.3g} ms, p99 {latency.p99_ms:.3g} ms"


def _rounded(latency: Latency) -> Latency:
    return Latency(round(latency.p50_ms, 4), round(latency.p99_ms, 4))
