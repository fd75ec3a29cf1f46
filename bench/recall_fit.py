"""Fit of the recall law to the operating points of indexes that were built: least squares, held near what is known.

Points of one size alone say nothing about growth: its exponents stay where they are held until indexes of several sizes
are there.
"""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from index_builder.recall_law import ITEMS, KINDS, Curve, Kind, KindLaw, default_law

Numbers = NDArray[np.float64]
HELD_LISTS = {"at": 0.0, "slope": 0.8, "bend": 0.05, "growth": 0.6}
HELD_CANDIDATES = {"at": 3.0, "slope": 2.5, "bend": 0.0, "growth": 0.1}
HELD_GRAPH = {"at": -3.0, "slope": 0.8, "bend": 0.1, "growth": 0.25}
"""Growth of a graph's depth: with N^0.25, as on spaces of some fifteen local dimensions."""
STIFFNESS = {"at": 0.001, "slope": 0.003, "bend": 0.01, "growth": 0.01}
"""Weight of what is known against one measured recall."""
FINEST, TAIL, COLD_TAIL = 0.99, 2.6, 2.0
LEAST_RECALL = 0.5
"""Deeper settings are what plans are about."""
WEIGHT = 5.0
"""Of points at 0.9 and more."""
GRAPH_ITEMS = 100_000


def fitted(points: Sequence[dict[str, Any]], match: dict[str, Any] | None) -> dict[str, Any]:
    """The law as `recall_law.json` has it; `match`: curves of a graph over 100,000 items, None: as the law has them."""
    timed = [point for point in points if point["warm"]]
    sizes = ", ".join(f"{point['items']:,} {point['vectors']}" for point in points)
    return {
        "measured": f"operating points of {sizes}; graphs: {GRAPH_ITEMS:,} real (bench/plan_points.py --fit)",
        "finer_share": median(point["codes"]["finer_axes"] / point["dim"] for point in points),
        "imbalance": round(median(point["imbalance"] for point in points), 3),
        "tail": _middle(
            [warm["p99_ms"] / warm["p50_ms"] for point in timed for warm in point["warm"].values()], TAIL
        ),
        "cold_tail": _middle(
            [_more(point, kind, "p99_ms") / _more(point, kind, "p50_ms") for point in timed for kind in KINDS],
            COLD_TAIL,
        ),
        **{kind: _kind(points, kind, column, match and match["curves"]["real"][f"{kind}: graph over efSearch"])
           for column, kind in enumerate(KINDS, start=2)},
    }  # fmt: skip


def _middle(ratios: Sequence[float], without: float) -> float:
    return round(max(median(ratios), 1.0), 2) if ratios else without


def _more(point: dict[str, Any], kind: Kind, quantile: str) -> float:
    """What a cold search takes more."""
    return max(float(point["cold"][kind][quantile] - point["warm"][kind][quantile]), 1e-3)


def _kind(points: Sequence[dict[str, Any]], kind: Kind, column: int, graph: dict[str, float] | None) -> dict[str, Any]:
    """Of one kind of query, whose recall stands in that column of the curves."""
    within = median(point["within"][kind] for point in points if point["within"])
    rows = [
        (point, entry, entry[column])
        for point in points
        for entry in point["curve"]
        if entry[column] is not None and entry[column] >= LEAST_RECALL
    ]

    def law(values: Numbers) -> KindLaw:
        finest, lists, candidates = values[0], values[1:5], values[5:9]
        return KindLaw(
            finest=finest, within=within, lists=_curve(lists), candidates=_curve(candidates), graph=_curve(graph_values)
        )

    def errors(values: Numbers) -> list[float]:
        known = law(values)
        return [
            _weight(recall)
            * (known.of_lists({"nprobe": entry[0], "k_factor": entry[1]}, point["items"], point["nlist"]) - recall)
            for point, entry, recall in rows
        ]

    def graph_errors(values: Numbers) -> list[float]:
        known = _curve(values)
        return [
            _weight(recall) * (known.share(float(depth), GRAPH_ITEMS / ITEMS) - recall)
            for depth, recall in (graph or {}).items()
        ]

    known_graph = dict(default_law().kinds())[kind].graph.model_dump()
    graph_values = _solved(graph_errors, [HELD_GRAPH], []) if graph else np.array(list(known_graph.values()))
    found = law(_solved(errors, [HELD_LISTS, HELD_CANDIDATES], [FINEST]))
    error = np.abs([each / _weight(recall) for each, (_, _, recall) in zip(errors(_values(found)), rows, strict=True)])
    print(f"column {column}: recall differs by {error.mean():.4f} on average, {error.max():.4f} at most")
    return {name: _rounded(value) for name, value in found.model_dump().items()}


def _solved(errors: Callable[[Numbers], list[float]], held: Sequence[dict[str, float]], first: list[float]) -> Numbers:
    """Parameters of curves, after others, that make the errors least, held near what is known."""
    start = np.array([*first, *(value for each in held for value in each.values())])
    stiff = np.array([*(0.01 for _ in first), *(STIFFNESS[name] for each in held for name in each)])
    low = np.array(
        [*(0.9 for _ in first), *(0.0 if name in {"bend", "slope"} else -20.0 for each in held for name in each)]
    )
    high = np.array([*(1.0 for _ in first), *(20.0 for each in held for _ in each)])
    start = np.clip(start, low + 1e-6, high - 1e-6)
    return np.asarray(
        least_squares(lambda values: [*errors(values), *(stiff * (values - start))], start, bounds=(low, high)).x
    )


def _weight(recall: float) -> float:
    return WEIGHT if recall >= 0.9 else 1.0


def _curve(values: Numbers) -> Curve:
    return Curve(**dict(zip(HELD_LISTS, values.tolist(), strict=True)))


def _values(law: KindLaw) -> Numbers:
    return np.array([law.finest, *law.lists.model_dump().values(), *law.candidates.model_dump().values()])


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else {name: round(each, 4) for name, each in value.items()}
