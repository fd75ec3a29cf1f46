"""The streaming job on one machine: supervises a worker per pipeline, shows how they stand, tends the embedded log.

A worker holds no truth: offsets, tables and the log say what was done. So every fault has one answer here, another
worker, and this process itself may be killed: its workers then drain by themselves, and the next run goes on.
"""

import fcntl
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from beam.pipelines import READS
from lookalike.contracts.change import Topic
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.settings import Settings
from lookalike.line.stream_meter import PipelineReading, StreamMeter, StreamReading
from lookalike.line.stream_slot import Slot
from lookalike.storage.log.opening import open_log, tidy_log
from lookalike.storage.log.port import Log, LogUnavailable

LOG = logging.getLogger("lookalike.stream")

TICK_SECONDS = 0.05
SHOW_SECONDS = 1.0
TIDY_SECONDS = 300.0
AWAY_SECONDS, AWAY_TOLD_SECONDS = 1.0, 30.0
"""A log that is away is looked for so often, and spoken of so often."""
ONCE_CRASHES = 5
"""So many crashes in a row end a run that is to end by itself."""

Show = Callable[[StreamReading], None]
Result = TypeVar("Result")


class StreamRunning(LookalikeError):
    """This home has a supervisor already."""


@dataclass(frozen=True)
class StreamReport:
    """What a run did. `gaps`: seconds of each hand-over between two workers."""

    changes: int
    published: int
    refused: int
    archived: int
    recycled: int
    gaps: tuple[float, ...]
    seconds: float


def run_stream(settings: Settings, show: Show, once: bool = False) -> StreamReport:
    """Run until SIGTERM or Ctrl-C (drains; the second one kills), or with `once` until all that is there is done.

    To be called in the main thread. A log that is away is waited for, but with `once`. Raises StreamRunning, and with
    `once` LogUnavailable, and LookalikeError when a worker cannot do its work.
    """
    with _only_supervisor(settings):
        log = _when_the_log_is_there(lambda: open_log(settings), patient=not once)
        try:
            make = partial(_Supervisor, settings, log, show, once)
            return _when_the_log_is_there(make, patient=not once).run()
        finally:
            log.close()


def _when_the_log_is_there(act: Callable[[], Result], patient: bool) -> Result:
    """What `act` gives. A broker that is being restarted comes back, and nobody should have to start this again."""
    told = 0.0
    while True:
        try:
            return act()
        except LogUnavailable as error:
            if not patient:
                raise
            if time.monotonic() - told > AWAY_TOLD_SECONDS:
                told = time.monotonic()
                LOG.warning("waiting for the log: %s", error)
            time.sleep(AWAY_SECONDS)


class _Supervisor:
    def __init__(self, settings: Settings, log: Log, show: Show, once: bool) -> None:
        self._settings, self._log, self._show = settings, log, show
        self._meter = StreamMeter(log)
        self._slots = {name: Slot(settings, name) for name in READS}
        self._signals = 0
        self._once = once
        self._goal = {p: log.high_watermark(Topic.CHANGES, p) for p in range(log.partitions)}
        self._before = self._done()

    def run(self) -> StreamReport:
        began = time.monotonic()
        with self._signalled():
            try:
                self._loop()
            finally:
                for slot in self._slots.values():
                    slot.kill()
        done = self._done_since()
        slots = self._slots.values()
        return StreamReport(
            changes=done["enrich"],
            published=self._meter.written(Topic.UPDATES),
            refused=self._meter.written(Topic.REFUSED),
            archived=done["archive"],
            recycled=sum(slot.recycled for slot in slots),
            gaps=tuple(gap for slot in slots for gap in slot.gaps),
            seconds=time.monotonic() - began,
        )

    def _loop(self) -> None:
        if self._once and not any(self._meter.lag(name, topic) for name, topics in READS.items() for topic in topics):
            return
        shown, tidied = 0.0, time.monotonic()
        while not all(slot.ended for slot in self._slots.values()):
            now = time.monotonic()
            if self._signals:
                for slot in self._slots.values():
                    slot.kill() if self._signals > 1 else slot.stop()
            for slot in self._slots.values():
                slot.tend()
            if now - shown >= SHOW_SECONDS:
                shown = now
                self._look()
            if now - tidied >= TIDY_SECONDS:
                tidied = now
                threading.Thread(target=self._tidy, daemon=True).start()
            time.sleep(TICK_SECONDS)

    def _look(self) -> None:
        """Show how all stands, and with `once` end what is done. A log that is away for a while ends nothing here."""
        try:
            self._show(self._reading())
            if self._once:
                self._end_what_is_done()
        except LogUnavailable as error:
            LOG.warning("the log cannot be read now: %s", error)

    def _reading(self) -> StreamReading:
        readings: list[PipelineReading] = []
        counts: dict[str, int] = {}
        for name, slot in self._slots.items():
            rss = 0 if slot.worker is None else slot.worker.rss_bytes
            counts |= {} if slot.worker is None else slot.worker.counts
            reading = self._meter.reading(name)
            readings.append(replace(reading, rss_bytes=rss, recycled=slot.recycled, state=slot.state))
        written = self._meter.written
        return StreamReading(tuple(readings), written(Topic.UPDATES), written(Topic.REFUSED), counts)

    def _end_what_is_done(self) -> None:
        """First what was there at the start is enriched, then what came of it is archived."""
        for slot in self._slots.values():
            if slot.crashes >= ONCE_CRASHES and slot.worker is None:
                raise LookalikeError(f"the worker of {slot.name} cannot do its work; the messages above say why")
        enrich, archive = (self._slots[name] for name in READS)
        position = self._meter.position(enrich.name, Topic.CHANGES)
        if all(position[p] >= goal for p, goal in self._goal.items()) and not self._meter.lag("enrich", Topic.LATER):
            enrich.stop()
        if enrich.ended and not any(self._meter.lag(archive.name, topic) for topic in READS[archive.name]):
            archive.stop()

    def _done_since(self) -> dict[str, int]:
        """Records dealt with since the start; not known with the log away, though the drain was whole all the same."""
        try:
            return {name: count - self._before[name] for name, count in self._done().items()}
        except LogUnavailable as error:
            LOG.warning("drained; how much was done is not known: %s", error)
            return dict.fromkeys(self._before, 0)

    def _done(self) -> dict[str, int]:
        """Records dealt with, of the first topic of `enrich` and of all of `archive`."""
        counted = {"enrich": (Topic.CHANGES,), "archive": READS["archive"]}
        return {
            name: sum(sum(self._meter.position(name, topic).values()) for topic in topics)
            for name, topics in counted.items()
        }

    def _tidy(self) -> None:
        try:
            if deleted := tidy_log(self._log):
                LOG.info("the log let go of %d records", deleted)
        except LookalikeError as error:
            LOG.warning("upkeep of the log put off: %s", error)

    @contextmanager
    def _signalled(self) -> Iterator[None]:
        def note(*_: object) -> None:
            self._signals += 1
            LOG.warning("drains; once more to end at once" if self._signals == 1 else "ends at once")

        before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def submit_stream(settings: Settings, runner: str, options: Sequence[str]) -> dict[str, str]:
    """Submit the pipelines as jobs of a Beam runner with its own `options`; the jobs' states by pipeline."""
    from beam.options import submit

    return {name: str(result.state) for name, result in submit(settings, runner, options).items()}


@contextmanager
def _only_supervisor(settings: Settings) -> Iterator[None]:
    path = settings.stream_root / "supervisor.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StreamRunning(
                f"`lookalike stream` runs on {settings.home} already, in process {path.read_text()}. One is enough; "
                "to replace it, end that process (SIGTERM drains it) and start again"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
