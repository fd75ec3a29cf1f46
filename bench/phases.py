"""A phase of the freshness bench: what was measured in a stretch of time, its quantiles, and the bars to hold."""

import re
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

BARS = {"attributes": (0.150, 0.400), "gone": (0.150, 0.400), "picture": (None, 1.0)}
SEARCH_BAR = 1.2


@dataclass
class Phase:
    """What the searcher and the probes saw in one stretch of time."""

    name: str
    rate: float
    seconds: float
    searches: list[float] = field(default_factory=list)
    inside: list[float] = field(default_factory=list)
    search_times: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    seen: dict[str, list[float]] = field(default_factory=lambda: {"attributes": [], "gone": [], "picture": []})
    unseen: list[str] = field(default_factory=list)
    sent: int = 0
    lag_at_end: int = 0
    memory: dict[str, list[int]] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)


def quantiles(values: list[float]) -> dict[str, float]:
    """Count, p50, p99, max in milliseconds."""
    if not values:
        return {"n": 0}
    p50, p99 = np.quantile(values, (0.5, 0.99))
    return {
        "n": len(values),
        "p50": round(p50 * 1e3, 1),
        "p99": round(p99 * 1e3, 1),
        "max": round(max(values) * 1e3, 1),
    }


def summary(phase: Phase) -> dict[str, Any]:
    """What is printed and kept of a phase. Memory in MiB: after a minute, at the end, highest."""
    mebibyte = 2**20
    return {
        "phase": phase.name, "rate": phase.rate, "seconds": phase.seconds, "sent": phase.sent,
        "lag_at_end": phase.lag_at_end, "search_ms": quantiles(phase.searches),
        "search_inside_ms": quantiles(phase.inside), "slowest": slowest(phase),
        "search_failed": len(phase.failed),
        "visible_ms": {kind: quantiles(seen) for kind, seen in phase.seen.items()}, "unseen": phase.unseen[:10],
        "memory_mib": {
            name: [values[min(12, len(values) - 1)] // mebibyte, values[-1] // mebibyte, max(values) // mebibyte]
            for name, values in phase.memory.items()
        },
        "cores": phase.cpu,
    }  # fmt: skip


def slowest(phase: Phase, count: int = 12) -> list[tuple[float, float]]:
    """The slowest searches: when (seconds into the phase), and how long (ms). Together: a stall; apart: contention."""
    pairs = sorted(zip(phase.searches, phase.search_times, strict=True), reverse=True)[:count]
    first = min(phase.search_times, default=0.0)
    return sorted((round(at - first, 1), round(seconds * 1e3, 1)) for seconds, at in pairs)


def histogram(url: str) -> dict[str, Any]:
    """The server's own histogram over all changes: share below each bound, by kind."""
    text = httpx.get(f"{url}/metrics", timeout=30.0).text
    found: dict[str, dict[str, float]] = {}
    for kind, bound, value in re.findall(
        r'lookalike_change_visible_seconds_bucket\{kind="(\w+)",le="([^"]+)"\} ([0-9.e+]+)', text
    ):
        found.setdefault(kind, {})[bound] = float(value)
    return {
        kind: {bound: round(count / buckets["+Inf"], 4) for bound, count in buckets.items()} | {"n": buckets["+Inf"]}
        for kind, buckets in found.items()
        if buckets["+Inf"]
    }


def missed(phase: Phase, rest: Phase) -> list[str]:
    """Bars that this phase does not hold."""
    found = []
    for kind, (p50_bar, p99_bar) in BARS.items():
        told = quantiles(phase.seen[kind])
        if p50_bar and told.get("p50", 1e9) > p50_bar * 1e3:
            found.append(f"{kind} p50 {told.get('p50')} ms > {p50_bar * 1e3:.0f}")
        if told.get("p99", 1e9) > p99_bar * 1e3:
            found.append(f"{kind} p99 {told.get('p99')} ms > {p99_bar * 1e3:.0f}")
    if phase.unseen:
        found.append(f"{len(phase.unseen)} probed changes were never seen")
    if phase.failed:
        found.append(f"{len(phase.failed)} searches failed: {phase.failed[0]}")
    at_rest, now = quantiles(rest.searches).get("p99", 0.0), quantiles(phase.searches).get("p99", 1e9)
    if now > SEARCH_BAR * at_rest:
        found.append(f"search p99 {now} ms > {SEARCH_BAR} x {at_rest} at rest")
    return found
