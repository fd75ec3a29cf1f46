"""Gathering of log records for one bundle: when to wait, for how long, and when to stop.

Local runners process the partitions of a bundle one after another, so a wait belongs to the bundle and not to a
partition: whoever comes first waits until any partition has something; the others then take what is there. Bundles
follow each other no quicker than `seconds`, because every bundle costs time and memory whatever it holds; a record
that comes after a quiet while is taken at once.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lookalike.contracts.change import Topic
from lookalike.storage.log.port import Log, Record

IDLE_SECONDS = 1.0
"""A bundle without a record ends after this long, so that the runner stays in charge."""
FIRST_PAUSE_SECONDS = 0.004
LONGEST_PAUSE_SECONDS = 0.25
PAUSES_PER_GATHERING = 2.0
"""The pause between two looks at the log grows up to this part of `seconds`."""


@dataclass(frozen=True, order=True)
class Source:
    """One partition of one topic."""

    topic: Topic
    partition: int


@dataclass
class _Lane:
    """Records of one source from offset `position` on that were read from the log and not taken yet."""

    position: int
    waiting: list[Record] = field(default_factory=list)

    def seek(self, offset: int) -> None:
        if offset != self.position:
            self.position, self.waiting = offset, []

    @property
    def next(self) -> int:
        return self.waiting[-1].offset + 1 if self.waiting else self.position

    def take(self, count: int) -> list[Record]:
        taken, self.waiting = self.waiting[:count], self.waiting[count:]
        if taken:
            self.position = taken[-1].offset + 1
        return taken


class Gatherer:
    """Takes records of several sources of one log, bundle by bundle. For one thread.

    `seconds` lie between two bundles with records unless `records` of one source wait; `delays` are the seconds that
    records of a topic must have lain before they are taken; `stopped` ends every wait.
    """

    def __init__(
        self,
        log: Log,
        seconds: float,
        records: int,
        delays: Mapping[Topic, float],
        stopped: Callable[[], bool],
    ) -> None:
        self._log, self._seconds, self._records = log, seconds, records
        self._delays, self._stopped = delays, stopped
        self._longest_pause = min(LONGEST_PAUSE_SECONDS, max(FIRST_PAUSE_SECONDS, seconds / PAUSES_PER_GATHERING))
        self._lanes: dict[Source, _Lane] = {}
        self._touched: set[Source] = set()
        self._gathered = False
        self._last = float("-inf")

    def new_bundle(self) -> None:
        """A bundle begins: sources that the last one did not ask for have gone to another worker."""
        self._lanes = {source: lane for source, lane in self._lanes.items() if source in self._touched}
        self._touched = set()
        self._gathered = False

    def take(self, source: Source, offset: int) -> list[Record]:
        """Up to `records` records from the first offset that is at least `offset`; none when told to stop.

        The first call of a bundle waits, at most IDLE_SECONDS when there is nothing at all. Raises OffsetExpired and
        LogUnavailable.
        """
        lane = self._lanes.setdefault(source, _Lane(offset))
        lane.seek(offset)
        self._touched.add(source)
        if not self._gathered:
            self._gather()
            self._gathered = True
        if self._stopped():
            return []
        return lane.take(self._ready(source, lane))

    def _gather(self) -> None:
        give_up = time.monotonic() + IDLE_SECONDS
        pause = FIRST_PAUSE_SECONDS
        while not self._stopped():
            most = max(self._ready(source, lane) for source, lane in self._lanes.items())
            now = time.monotonic()
            wanted = self._last + self._seconds
            if most and (now >= wanted or most >= self._records):
                self._last = now
                return
            end = wanted if most else give_up
            if now >= end:
                return
            time.sleep(min(pause, end - now))
            pause = min(pause * 1.5, self._longest_pause)

    def _ready(self, source: Source, lane: _Lane) -> int:
        """How many records may be taken now, after a look at the log."""
        if len(lane.waiting) < self._records:
            room = self._records - len(lane.waiting)
            lane.waiting += self._log.read(source.topic, source.partition, lane.next, room)
        delay = self._delays.get(source.topic)
        if delay is None:
            return len(lane.waiting)
        newest_due = (time.time() - delay) * 1000
        return next((n for n, record in enumerate(lane.waiting) if record.appended_ms > newest_due), len(lane.waiting))
