"""The bar that our engine is held to beside the others, and why it is held or not.

At 0.95 recall: at least as fast as the fastest peer with less than a third of its memory, or at least twice as fast as
every peer of similar memory.
"""

from collections.abc import Sequence
from typing import Any

from curves import BOTH, at

OURS, RECALL = "lookalike", 0.95
LESS, SIMILAR, FASTER = 3.0, 2.0, 2.0
"""Of similar memory is a peer that holds at most SIMILAR times what ours does."""
Result = dict[str, Any]


def held(result: Result) -> int:
    """Bytes that search holds beyond the process before it opened the index, with the pages of files that it reads."""
    before, now = result["memory"]["before"], result["memory"]["searched"]
    return sum(int(now[kind] - before[kind]) for kind in ("anonymous", "shared")) + int(now["files"])


def bar(results: Sequence[Result]) -> list[str]:
    """Paragraphs: one for each way to ask; none where ours was not measured."""
    ours = next((each for each in results if each["engine"] == OURS and each["points"]), None)
    if ours is None:
        return []
    peers = [each for each in results if not each["engine"].startswith(OURS)]
    failed = [f"{each['engine']} ({each['error'][:60]})" for each in peers if not each["finished"]]
    names = {"single": "one query at a time", "batched": "in batches"}
    said = [f"The bar at {RECALL} recall, {name}: {_said(ours, peers, way)}" for way, name in names.items()]
    return said + ([f"Not measured to the end: {', '.join(failed)}."] if failed else [])


def _said(ours: Result, peers: Sequence[Result], way: str) -> str:
    mine = at(ours["points"], RECALL, way, BOTH, "mean_ms")
    if mine is None:
        return f"not held: {OURS} does not reach it."
    reached = [(at(peer["points"], RECALL, way, BOTH, "mean_ms"), peer) for peer in peers]
    there = sorted(((time, peer) for time, peer in reached if time is not None), key=lambda each: each[0])
    if not there:
        return "no peer reaches it."
    time, best = there[0]
    first = time >= mine and held(ours) * LESS < held(best)
    similar = [(time, peer) for time, peer in there if held(peer) <= SIMILAR * held(ours)]
    second = bool(similar) and all(time >= FASTER * mine for time, _ in similar)  # none to beat is no proof
    because = (
        f"{OURS} {_figures(mine, ours)}; fastest peer {best['engine']} {_figures(time, best)}: "
        f"{time / mine:.2f} times its speed with {held(ours) / held(best):.2f} of its memory"
    )
    closest = (
        f"{similar[0][1]['engine']} {_figures(*similar[0])}, {similar[0][0] / mine:.2f} times"
        if similar
        else "there is none that reaches it"
    )
    return (
        f"{'held' if first or second else 'NOT held'}. As fast as the fastest with less than a third of its memory: "
        f"{_yes(first)} ({because}). {FASTER:g} times as fast as each of similar memory, at most {SIMILAR:g} times "
        f"ours: {_yes(second)} (the fastest of them: {closest})."
    )


def _figures(milliseconds: float, result: Result) -> str:
    return f"{1_000 / milliseconds:,.0f} QPS with {held(result) / 2**20:,.0f} MiB"


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"
