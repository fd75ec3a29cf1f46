"""Progress of long steps: one small port, so that jobs report and the entry point decides how it looks.

In a terminal the command line passes a rich progress bar; elsewhere `LogProgress` writes a plain line now and then.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

LOG = logging.getLogger("lookalike.progress")


class Step(Protocol):
    """A running step."""

    def advance(self, count: int = 1) -> None: ...


class Progress(Protocol):
    """Opens steps: `with progress.step("embed", total=8113) as step: step.advance(256)`."""

    @contextmanager
    def step(self, name: str, total: int | None = None) -> Iterator[Step]: ...


class _LogStep:
    def __init__(self, name: str, total: int | None, every_seconds: float) -> None:
        self._name, self._total, self._every = name, total, every_seconds
        self.done, self._next = 0, time.monotonic() + every_seconds

    def advance(self, count: int = 1) -> None:
        self.done += count
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self._every
            LOG.info("%s: %s of %s", self._name, f"{self.done:,}", f"{self._total:,}" if self._total else "?")


class LogProgress:
    """Plain log lines, at most one per `every_seconds` and one when the step ends."""

    def __init__(self, every_seconds: float = 5.0) -> None:
        self._every = every_seconds

    @contextmanager
    def step(self, name: str, total: int | None = None) -> Iterator[Step]:
        started, running = time.monotonic(), _LogStep(name, total, self._every)
        yield running
        LOG.info("%s: done, %s in %.1f s", name, f"{running.done:,}", time.monotonic() - started)
