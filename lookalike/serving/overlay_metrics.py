"""Prometheus metrics of the overlay: what is in it, what came of each update, how far it is behind the log."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from lookalike.serving.overlay_status import OverlayStatus

_SIZES = {
    "items": ("touched", "Items that changed since the release was built"),
    "slots": ("slots", "Items found by a vector in memory"),
    "hidden": ("hidden", "Sealed rows that are not found: deleted, or found by a newer picture"),
    "patched": ("patched", "Sealed rows with changed attributes"),
    "unplaced": ("unplaced", "Changed items without a vector in this release's space: not found by a search"),
    "refused_vectors": ("refused_vectors", "Vectors that were not taken: wrong length, norm or not finite"),
    "bytes": ("bytes", "Memory of the overlay"),
    "budget_bytes": ("budget_bytes", "Memory above which a release is due"),
}


class OverlayMetrics:
    """Counters are added to as updates are applied; gauges show the overlay that answers, when they are scraped."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.applied = Counter(
            "lookalike_overlay_updates", "Updates applied, by what each changed", ("outcome",), registry=registry
        )
        self.log_errors = Counter("lookalike_log_errors", "Reads of the log that failed", registry=registry)
        self._sizes = {
            field: Gauge(f"lookalike_overlay_{name}", meaning, registry=registry)
            for name, (field, meaning) in _SIZES.items()
        }
        self._over_budget = Gauge("lookalike_overlay_over_budget", "1 when a release is due", registry=registry)
        self._problem = Gauge("lookalike_overlay_problem", "1 while changes do not arrive", registry=registry)
        self._lag_messages = Gauge(
            "lookalike_overlay_lag_messages", "Messages of the log not yet visible", ("partition",), registry=registry
        )
        self._lag_seconds = Gauge(
            "lookalike_overlay_lag_seconds",
            "How long some of them are known to wait",
            ("partition",),
            registry=registry,
        )

    def show(self, status: OverlayStatus | None) -> None:
        """Set the gauges; without an overlay they stay as they are."""
        if status is None:
            return
        for field, gauge in self._sizes.items():
            gauge.set(getattr(status.stats, field))
        self._over_budget.set(status.stats.over_budget)
        self._problem.set(status.problem is not None)
        for partition, lag in status.lag.items():
            self._lag_messages.labels(str(partition)).set(lag.messages)
            self._lag_seconds.labels(str(partition)).set(lag.seconds)
