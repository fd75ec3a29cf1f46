"""Feedback on one server: what its searches showed, where the settings want that kept, and what was done with it.

Events have threads of their own: a flood of clicks must not turn changes of the catalogue away.
"""

import time
from collections.abc import Sequence

from prometheus_client import Counter, Gauge

from lookalike.contracts.change import Topic
from lookalike.contracts.feedback import Click, impression_kept, new_search_id
from lookalike.contracts.query import SearchAnswer, SearchQuery
from lookalike.contracts.settings import FeedbackSettings
from lookalike.serving.impressions import Impressions
from lookalike.serving.log_access import LogAccess
from lookalike.serving.metrics import Metrics
from lookalike.serving.problems import LogAway
from lookalike.serving.workers import Workers
from lookalike.storage.log.port import LogUnavailable, Message

THREADS = 2
"""Appends of several threads share one flush to disk."""


class Feedback:
    """`start` before the first search, `stop` after the last. `writers` are the threads in which `append` may run."""

    def __init__(self, settings: FeedbackSettings, log: LogAccess, metrics: Metrics) -> None:
        registry, self._log = metrics.registry, log
        self._impressions = Impressions(settings, log, registry) if settings.impressions else None
        pending = Gauge(
            "lookalike_feedback_pending", "Requests with feedback waiting or being appended", registry=registry
        )
        self.writers = Workers(THREADS, metrics, pending)
        self._taken = Counter(
            "lookalike_feedback_accepted", "Clicks and the like, appended to the log", registry=registry
        )
        self._not_kept = Counter("lookalike_feedback_not_kept", "... on searches that are not noted", registry=registry)

    def start(self) -> None:
        """Begin; returns at once."""
        if self._impressions is not None:
            self._impressions.start()

    def stop(self) -> None:
        """Let what runs end, then append the impressions that wait."""
        self.writers.close()
        if self._impressions is not None:
            self._impressions.stop()

    def note(self, query: SearchQuery, answer: SearchAnswer, wanted: bool) -> str:
        """The answer's search id; keeps what it shows where the settings and the caller (`wanted`) let it."""
        if self._impressions is None or not wanted:
            return new_search_id(time.time_ns() // 1_000_000, kept=False)
        return self._impressions.note(query, answer)

    def append(self, given: Sequence[Click]) -> tuple[int, int]:
        """Append events on searches that were noted; how many those are, and how many not. Raises LogAway."""
        kept = [each for each in given if impression_kept(each.search_id)]
        try:
            self._log.get().append(Topic.FEEDBACK, [Message(each.search_id.encode(), each.encode()) for each in kept])
        except LogUnavailable as error:
            raise LogAway(f"{error}. Nothing was taken; send it again") from error
        not_kept = len(given) - len(kept)
        self._taken.inc(len(kept))
        self._not_kept.inc(not_kept)
        return len(kept), not_kept
