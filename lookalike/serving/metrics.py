"""Prometheus metrics of one server: requests, search stages, the release it answers from and those it refused."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from lookalike.serving.freshness import Freshness, Recent
from lookalike.serving.overlay_metrics import OverlayMetrics

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CONTENT_TYPE = CONTENT_TYPE_LATEST
SEARCH_ROUTES = frozenset({"/v1/search", "/v1/items/{item_id:path}/similar"})


class Metrics:
    """Counters and gauges in a registry of their own, so that two servers of one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "lookalike_requests", "HTTP requests answered", ("method", "route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "lookalike_request_seconds", "From first byte read to last byte sent", ("route",),
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self._stages = Histogram(
            "lookalike_search_stage_seconds", "Part of a search", ("stage",), buckets=SECONDS, registry=self.registry
        )
        self.pending = Gauge("lookalike_searches_pending", "Searches waiting or running", registry=self.registry)
        self.changes_pending = Gauge(
            "lookalike_changes_pending", "Requests with changes waiting or being appended", registry=self.registry
        )
        self.accepted = Counter("lookalike_changes_accepted", "Changes appended to the log", registry=self.registry)
        self.overloads = Counter("lookalike_overloads", "Requests turned away as too many", registry=self.registry)
        self._release = Gauge(
            "lookalike_release_info", "1 for the release that answers", ("version", "manifest_sha256", "space"),
            registry=self.registry,
        )  # fmt: skip
        self._items = Gauge("lookalike_release_items", "Items of the release that answers", registry=self.registry)
        self._held = Gauge(
            "lookalike_releases_held", "Releases in memory: the one that answers and those still pinned by a request",
            registry=self.registry,
        )  # fmt: skip
        self._swaps = Counter("lookalike_release_swaps", "Releases taken into service", registry=self.registry)
        self._refused = Gauge(
            "lookalike_release_refused", "1 while the live pointer names a version that this server refuses",
            ("version", "error"), registry=self.registry,
        )  # fmt: skip
        self._refusals = Counter(
            "lookalike_release_refusals", "Attempts to load a release that failed", ("error",), registry=self.registry
        )
        self.registry_errors = Counter(
            "lookalike_registry_errors", "Reads of the live pointer that failed", registry=self.registry
        )
        self.overlay = OverlayMetrics(self.registry)
        self.freshness = Freshness(self.registry)
        self.answered = 0
        self.recent_searches = Recent()

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request. `route` is the template, never the path: paths are without bound."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        self.answered += 1
        if route in SEARCH_ROUTES:
            self.recent_searches.add(seconds)

    def search(self, took_ms: dict[str, float]) -> None:
        """Note the stages of a search."""
        for stage, milliseconds in took_ms.items():
            self._stages.labels(stage).observe(milliseconds / 1000)

    def serving(self, version: str, manifest_sha256: str, space: str, items: int) -> None:
        """A release was taken into service."""
        self._release.clear()
        self._release.labels(version, manifest_sha256, space).set(1)
        self._items.set(items)
        self._swaps.inc()

    def held(self, count: int) -> None:
        """How many releases are in memory now."""
        self._held.set(count)

    def refused(self, version: str, error: str) -> None:
        """A version could not be loaded."""
        self._refused.clear()
        self._refused.labels(version, error).set(1)
        self._refusals.labels(error).inc()

    def not_refused(self) -> None:
        """The live pointer names what this server serves."""
        self._refused.clear()

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)
