"""Counts of the enriching pipeline: of this process, for `lookalike stream` and its log, and as Beam's metrics."""

import threading
from collections import Counter
from collections.abc import Mapping

from apache_beam.metrics.metric import Metrics

NAMESPACE = "lookalike"
_LOCK = threading.Lock()
_COUNTS: Counter[str] = Counter()


def add(counted: Mapping[str, int]) -> None:
    """Add what was done; called from within a stage."""
    with _LOCK:
        _COUNTS.update(counted)
    for name, count in counted.items():
        Metrics.counter(NAMESPACE, name).inc(count)


def counts() -> dict[str, int]:
    """How often each thing happened since this process started.

    Names: read, skipped (dealt with before a restart), published_KIND, repeated, overtaken (behind after it was
    parked), refused_REASON, parked, pictures_fetched, vectors_reused, vectors_embedded. A change
    that is behind is refused_version_behind.
    """
    with _LOCK:
        return dict(_COUNTS)
