"""Bounded search threads: the event loop stays free, and a flood is turned away instead of queued without end.

A queue longer than what can be answered within the deadline helps nobody: callers give up while their work is still
done. So a request is refused at once when too many wait, and dropped unstarted when its time has passed.
"""

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from prometheus_client import Gauge

from lookalike.serving.metrics import Metrics
from lookalike.serving.problems import Overloaded

DEADLINE_SECONDS = 10.0
PENDING_PER_THREAD = 32

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """A thread pool with a bound on waiting work. All methods are called on the event loop."""

    def __init__(self, threads: int, metrics: Metrics, pending: Gauge | None = None) -> None:
        """`threads` 0 means one per core; `pending` shows the waiting work, by default as searches."""
        self.threads = threads or os.cpu_count() or 1
        self.limit = self.threads * PENDING_PER_THREAD
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="worker")
        self._metrics, self._shown = metrics, metrics.pending if pending is None else pending
        self._pending = 0

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run in a thread. Raises Overloaded when too many wait or the deadline passes."""
        if self._pending >= self.limit:
            self._metrics.overloads.inc()
            raise Overloaded(f"{self._pending} requests wait already; try again in a moment")
        deadline = time.monotonic() + DEADLINE_SECONDS

        def in_time() -> T:
            if time.monotonic() > deadline:
                raise Overloaded(f"the request could not be started within {DEADLINE_SECONDS:.0f} s")
            return function(*args, **kwargs)

        self._count(+1)
        future = asyncio.get_running_loop().run_in_executor(self._pool, in_time)
        future.add_done_callback(self._finished)
        try:
            return await asyncio.wait_for(asyncio.shield(future), DEADLINE_SECONDS)
        except TimeoutError:
            self._metrics.overloads.inc()
            raise Overloaded(f"the request took longer than {DEADLINE_SECONDS:.0f} s") from None

    @property
    def busy(self) -> bool:
        """Whether anything runs or waits. From any thread."""
        return self._pending > 0

    def close(self) -> None:
        """Let running searches end; start no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _finished(self, future: "asyncio.Future[T]") -> None:
        self._count(-1)
        if not future.cancelled():
            future.exception()  # read it: after a deadline nobody else does, and asyncio would complain

    def _count(self, change: int) -> None:
        self._pending += change
        self._shown.set(self._pending)
