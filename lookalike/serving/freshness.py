"""Recent values with their quantiles, and how fresh this server is: from a change's event time to visible here."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import numpy as np
from prometheus_client import CollectorRegistry, Histogram

from lookalike.contracts.change import ChangeKind

RECENT_SECONDS = 300.0
RECENT_VALUES = 20_000
BUCKETS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 1.0, 2.0, 5.0, 15.0, 60.0)
SHOWN_KINDS = {
    ChangeKind.UPSERT: "picture",
    ChangeKind.ATTRIBUTES: "attributes",
    ChangeKind.DELETE: "gone",
    ChangeKind.RESTORE: "restored",
}


@dataclass(frozen=True)
class Quantiles:
    """Of `count` recent values, in their own unit."""

    count: int
    p50: float
    p99: float

    def as_dict(self) -> dict[str, float]:
        """As JSON values."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


class Recent:
    """Values of the last `seconds`, the newest `limit` of them. Thread-safe."""

    def __init__(
        self,
        seconds: float = RECENT_SECONDS,
        limit: int = RECENT_VALUES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds, self._clock = seconds, clock
        self._lock = threading.Lock()
        self._values: deque[tuple[float, float]] = deque(maxlen=limit)

    def add(self, value: float) -> None:
        """Note a value now."""
        with self._lock:
            self._values.append((self._clock(), value))

    def values(self) -> list[float]:
        """Those that are recent enough, oldest first."""
        since = self._clock() - self._seconds
        with self._lock:
            while self._values and self._values[0][0] < since:
                self._values.popleft()
            return [value for _, value in self._values]


def quantiles(values: list[float]) -> Quantiles | None:
    """Median and 99th percentile; None of nothing."""
    if not values:
        return None
    p50, p99 = np.percentile(values, (50, 99))
    return Quantiles(len(values), float(p50), float(p99))


class Freshness:
    """Seconds from event time to visible in this server, by kind of change. One writer per partition at a time.

    While a release is exchanged two overlays follow the log; a change counts when the first of them shows it.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._histogram = Histogram(
            "lookalike_change_visible_seconds", "From a change's event time to visible in this server", ("kind",),
            buckets=BUCKETS, registry=registry,
        )  # fmt: skip
        self._recent = {kind: Recent() for kind in SHOWN_KINDS.values()}
        self._lock = threading.Lock()
        self._counted: dict[int, int] = {}

    def note(self, partition: int, offset: int, kind: ChangeKind, event_time: datetime) -> None:
        """The update at this place of the log is visible now. Clocks that disagree give 0, never less."""
        with self._lock:
            if offset <= self._counted.get(partition, -1):
                return
            self._counted[partition] = offset
        seconds = max(0.0, (datetime.now(UTC) - event_time).total_seconds())
        shown = SHOWN_KINDS[kind]
        self._histogram.labels(shown).observe(seconds)
        self._recent[shown].add(seconds)

    def summary(self) -> dict[str, dict[str, float]]:
        """Count, p50 and p99 in seconds of the last minutes: by kind, and of `all`; what did not occur is absent."""
        by_kind = {kind: recent.values() for kind, recent in self._recent.items()}
        by_kind["all"] = [value for values in by_kind.values() for value in values]
        found = {kind: quantiles(values) for kind, values in by_kind.items()}
        return {kind: each.as_dict() for kind, each in found.items() if each is not None}
