"""A small pool of daemon threads: a fetch that hangs must not keep a drained worker from ending."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


class DaemonPool:
    """`threads` threads work off what is submitted, in order."""

    def __init__(self, threads: int, name: str) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Callable[[], Result]) -> "Future[Result]":
        """Have `work` done; its result or exception comes by the future, which may be cancelled before it begins."""
        future: Future[Result] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

        self._work.put(run)
        return future

    def close(self) -> None:
        """Let the threads end when what was submitted is done; waits for none."""
        for _ in self._threads:
            self._work.put(None)

    def _run(self) -> None:
        while (run := self._work.get()) is not None:
            run()
