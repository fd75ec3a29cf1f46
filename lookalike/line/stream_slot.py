"""One pipeline of the stream and the worker that runs it: begun, restarted after a crash, replaced when big or old.

A replacement boots while the old worker still works. When it is ready the old one is told to drain and the new one to
go: that waits for the lock which the old one holds, so the gap is a last bundle and the start of a pipeline.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lookalike.contracts.settings import Settings
from lookalike.line.stream_worker import StreamWorker, start_worker

LOG = logging.getLogger("lookalike.stream")

DRAIN_SECONDS = 60.0
"""A worker that has not drained by then is killed: what it had not committed is done again."""
LONGEST_PAUSE_SECONDS = 60.0
WELL_AFTER_SECONDS = 60.0
"""A worker that ran so long was well: the next crash is a first one again."""
SETTLED_SECONDS = 5.0
"""Memory of a worker is judged from this long after its beginning."""

Start = Callable[[Settings, str], StreamWorker]


@dataclass
class Slot:
    """`gaps`: seconds of each hand-over, from the order to drain to the next worker's beginning."""

    settings: Settings
    name: str
    start: Start = start_worker
    worker: StreamWorker | None = None
    spare: StreamWorker | None = None
    leaving: StreamWorker | None = None
    crashes: int = 0
    recycled: int = 0
    gaps: list[float] = field(default_factory=list)
    stopping: bool = False
    _not_before: float = 0.0

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs any more."""
        return self.stopping and not self._processes()

    @property
    def state(self) -> str:
        """In a word or two, for people."""
        worker = self.worker
        if worker is None:
            return "ended" if self.stopping else "waits after a crash" if self.crashes else "starts"
        if worker.drain_at:
            return "drains"
        if not worker.running_at:
            return "takes over" if self.leaving else "starts"
        return "is being replaced" if self.spare else "runs"

    def stop(self) -> None:
        """Drain; `tend` sees it through."""
        self.stopping = True

    def kill(self) -> None:
        """End all processes now."""
        self.stopping = True
        for worker in self._processes():
            worker.kill()
        self.worker = self.spare = self.leaving = None

    def tend(self) -> None:
        """Look at the processes and do what is due; to be called several times a second."""
        now = time.monotonic()
        if self.stopping:
            self._see_out(now)
        elif self.worker is None:
            if now >= self._not_before:
                self.worker = self.start(self.settings, self.name)
        elif self.worker.ended:
            self._not_before = now + self._pause(self.worker)
            self.worker, self.spare = self.spare, None
        elif not self.worker.went_at:
            if self.worker.ready_at:
                LOG.info("%s: the worker is ready after %.1f s", self.name, self.worker.boot_seconds)
                self.worker.go()
        else:
            self._watch(self.worker, now)

    def _processes(self) -> list[StreamWorker]:
        return [worker for worker in (self.worker, self.spare, self.leaving) if worker is not None]

    def _see_out(self, now: float) -> None:
        for worker in self._processes():
            worker.drain()
            self._kill_if_stuck(worker, now)
        self.worker, self.spare, self.leaving = (
            None if worker is None or worker.ended else worker for worker in (self.worker, self.spare, self.leaving)
        )

    def _watch(self, worker: StreamWorker, now: float) -> None:
        if worker.running_at and now - worker.running_at > WELL_AFTER_SECONDS:
            self.crashes = 0
        if self.leaving is not None:
            self._hand_over(self.leaving, worker, now)
        elif self.spare is None:
            if now >= self._not_before and (why := self._due(worker, now)):
                LOG.info("%s: a new worker starts, because the old one %s", self.name, why)
                self.spare = self.start(self.settings, self.name)
        elif self.spare.ended:
            self._not_before = now + self._pause(self.spare)
            self.spare = None
        elif self.spare.ready_at:
            LOG.info("%s: the new worker is ready after %.1f s", self.name, self.spare.boot_seconds)
            worker.drain()
            self.spare.go()
            self.leaving, self.worker, self.spare = worker, self.spare, None

    def _hand_over(self, leaving: StreamWorker, worker: StreamWorker, now: float) -> None:
        self._kill_if_stuck(leaving, now)
        if leaving.ended and worker.running_at:
            self.gaps.append(worker.running_at - leaving.drain_at)
            LOG.info("%s: the new worker took over within %.2f s", self.name, self.gaps[-1])
            self.recycled += 1
            self.leaving = None

    def _due(self, worker: StreamWorker, now: float) -> str:
        stream = self.settings.stream
        age = now - worker.running_at if worker.running_at else 0.0
        if age > stream.recycle_minutes * 60:
            return f"has run for {age / 60:.1f} minutes"
        if age > SETTLED_SECONDS and worker.rss_bytes > stream.worker_memory_bytes:
            return f"has {worker.rss_bytes / 2**20:,.0f} MiB"
        return ""

    def _pause(self, crashed: StreamWorker) -> float:
        pause = min(LONGEST_PAUSE_SECONDS, 2.0**self.crashes)
        self.crashes += 1
        LOG.error(
            "%s: the worker ended (code %s); a new one starts in %.0f s. Its log (%s) ends:\n%s",
            self.name, crashed.process.returncode, pause, crashed.log, crashed.tail(),
        )  # fmt: skip
        return pause

    def _kill_if_stuck(self, worker: StreamWorker, now: float) -> None:
        if worker.drain_at and now - worker.drain_at > DRAIN_SECONDS:
            LOG.warning("%s: the worker has not drained in %.0f s and is killed", self.name, DRAIN_SECONDS)
            worker.kill()
