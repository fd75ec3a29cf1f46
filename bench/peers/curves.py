"""Curves of recall against cost: the settings worth using, and what a given recall costs between two of them.

A point is one measured setting: point[way][kind] has `recall`, `mean_ms` and more, where way is "single" or "batched"
and kind is a kind of query or BOTH (times over all kinds, and the lower recall of them).
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

BOTH = "both"
RECALLS = (0.90, 0.95, 0.99)
Point = dict[str, Any]


def front(points: Sequence[Point], way: str, kind: str) -> list[dict[str, float]]:
    """Figures of the points that no other equals in recall at a lower mean time; cheapest, and lowest recall, first."""
    best: list[dict[str, float]] = []
    for figures in sorted((point[way][kind] for point in points), key=lambda each: (each["mean_ms"], -each["recall"])):
        if not best or figures["recall"] > best[-1]["recall"]:
            best.append(figures)
    return best


def at(points: Sequence[Point], recall: float, way: str, kind: str, figure: str) -> float | None:
    """`figure` where the front reaches `recall`, between two settings by its logarithm; None where it is not reached.

    Where the cheapest setting is beyond `recall` already, it is that one's.
    """
    best = front(points, way, kind)
    if not best or best[-1]["recall"] < recall:
        return None
    if best[0]["recall"] >= recall:
        return best[0][figure]
    low, high = next((low, high) for low, high in pairwise(best) if high["recall"] >= recall)
    share = (recall - low["recall"]) / (high["recall"] - low["recall"])
    return math.exp((1 - share) * math.log(low[figure]) + share * math.log(high[figure]))


def per_second(milliseconds: float | None) -> float | None:
    """Queries a second at so many milliseconds each."""
    return None if milliseconds is None else 1_000 / milliseconds
