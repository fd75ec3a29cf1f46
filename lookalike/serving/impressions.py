"""Impressions: what searches showed goes to the log beside them, never before them.

A search only puts its impression into a bounded queue; a thread of its own appends what has gathered. When the queue
is full, because the log is away or slow, impressions are dropped and counted, and their search ids say so.
"""

import logging
import queue
import random
import threading
import time

from prometheus_client import CollectorRegistry, Counter, Gauge

from lookalike.contracts.change import Topic
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.feedback import Impression, new_search_id, query_kind
from lookalike.contracts.query import SearchAnswer, SearchQuery
from lookalike.contracts.settings import FeedbackSettings
from lookalike.search.cursor import decode
from lookalike.serving.log_access import LogAccess
from lookalike.storage.log.port import Message

LOG = logging.getLogger("lookalike.serving")
GATHER_SECONDS = 0.5
"""Pause between two appends: one flush to disk for all impressions in between."""
BATCH = 500
RETRY_SECONDS = 1.0
STOP_SECONDS = 5.0


class Impressions:
    """`note` may be called from any thread; `start` begins to append, `stop` appends what is left and ends."""

    def __init__(self, settings: FeedbackSettings, log: LogAccess, registry: CollectorRegistry) -> None:
        self._rate, self._log = settings.sample_rate, log
        self._queue: queue.Queue[Impression] = queue.Queue(settings.queue)
        self._kept = Counter("lookalike_impressions_kept", "Impressions appended to the log", registry=registry)
        self._dropped = Counter(
            "lookalike_impressions_dropped", "Impressions lost: the queue was full, or the log away to the end",
            registry=registry,
        )  # fmt: skip
        waiting = Gauge("lookalike_impressions_pending", "Impressions that wait for the log", registry=registry)
        waiting.set_function(self._queue.qsize)
        self._failed = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="impressions", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Append what waits, for STOP_SECONDS at most, and end."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            LOG.warning("the log takes too long: %d impressions are lost", self._queue.qsize())

    def note(self, query: SearchQuery, answer: SearchAnswer) -> str:
        """Keep what this answer shows, unless it is not in the sample or too many wait. The answer's search id."""
        at_ms = time.time_ns() // 1_000_000
        if random.random() >= self._rate:
            return new_search_id(at_ms, kept=False)
        search_id = new_search_id(at_ms, kept=True)
        try:
            self._queue.put_nowait(impression_of(search_id, query, answer))
        except queue.Full:
            self._dropped.inc()
            return new_search_id(at_ms, kept=False)
        return search_id

    def _run(self) -> None:
        while not self._stopping.wait(GATHER_SECONDS):
            self._append_waiting()
        self._append_waiting()

    def _append_waiting(self) -> None:
        while batch := self._gather():
            messages = [Message(each.search_id.encode(), each.encode()) for each in batch]
            while not self._append(messages):
                if self._stopping.is_set():
                    self._dropped.inc(len(messages))
                    break
                self._stopping.wait(RETRY_SECONDS)

    def _gather(self) -> list[Impression]:
        batch: list[Impression] = []
        while len(batch) < BATCH:
            try:
                batch.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return batch

    def _append(self, messages: list[Message]) -> bool:
        """Whether the batch is done with; False to try it again. Raises nothing: a server lives without it."""
        try:
            self._log.get().append(Topic.FEEDBACK, messages)
        except LookalikeError as error:
            if not self._failed:  # one line, not one per try
                LOG.warning("impressions wait: %s", error)
            self._failed = True
            return False
        except Exception:
            LOG.exception("%d impressions are lost", len(messages))
            self._dropped.inc(len(messages))
            return True
        self._kept.inc(len(messages))
        self._failed = False
        return True


def impression_of(search_id: str, query: SearchQuery, answer: SearchAnswer) -> Impression:
    """What an answer shows, without what was asked."""
    return Impression(
        search_id=search_id,
        release=answer.release,
        query_kind=query_kind(query),
        start=decode(query.cursor).depth if query.cursor is not None else 0,
        items=tuple(hit.item_id for hit in answer.hits),
        filters=tuple(sorted({each.field for each in query.filters})),
        k=query.k,
    )
