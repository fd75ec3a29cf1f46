"""Which settings are measured: a short look at all that are worth one, then in full those around each recall wanted.

A look asks few queries, so its recall is a guess; the settings measured are moved along the front of the looks until
the recall of all queries lies on both sides of what is wanted.
"""

from collections.abc import Callable, Sequence
from typing import Any

from curves import BOTH, RECALLS, Point

ENOUGH = 0.995
"""Of the lower recall at a look: deeper settings are not tried."""
GAIN = 0.0005
"""Within a group, a deeper setting must find this much more to go on, and of IDLE groups in a row, one of them."""
IDLE = 3

Setting = dict[str, Any]


def look(groups: list[list[Setting]], looked_at: Callable[[Setting], Point]) -> list[Point]:
    """Look at settings, cheap ones first, for as long as deeper ones find more."""
    points: list[Point] = []
    highest, idle = 0.0, 0
    for group in groups:
        best = 0.0
        for setting in group:
            points.append(looked_at(setting))
            before, best = best, max(best, lowest(points[-1]))
            if best < before + GAIN or best >= ENOUGH:
                break
        idle = 0 if best >= highest + GAIN else idle + 1
        highest = max(highest, best)
        if best >= ENOUGH or idle == IDLE:
            break
    return points


def rising(looks: Sequence[Point]) -> list[Point]:
    """Looks that no other equals in recall at less time; cheapest first. By the median: one stall is no cost."""
    best: list[Point] = []
    for point in sorted(looks, key=lambda each: (each["single"][BOTH]["p50_ms"], -lowest(each))):
        if not best or lowest(point) > lowest(best[-1]):
            best.append(point)
    return best


def around(
    front: Sequence[Point], measured: Callable[[Setting], Point], recalls: Sequence[float] = RECALLS
) -> list[Point]:
    """Measure settings of `front` until of each of `recalls` one is on either side, or there are no more of them."""
    known: dict[int, Point] = {}

    def reaches(at: int, recall: float) -> bool:
        if at not in known:
            known[at] = measured(front[at]["setting"])
        return lowest(known[at]) >= recall

    for recall in recalls if front else ():
        at = next((at for at, point in enumerate(front) if lowest(point) >= recall), len(front) - 1)
        while not reaches(at, recall) and at + 1 < len(front):
            at += 1
        while reaches(at, recall) and at > 0:
            at -= 1
    return [known[at] for at in sorted(known)]


def lowest(point: Point) -> float:
    """Its recall of the kind that it is worst at."""
    return float(point["single"][BOTH]["recall"])
