"""A small pool of worker processes that end with their parent, also when the parent is killed.

The pool's queues are open in the workers too, so a worker would otherwise wait for ever for a parent that is gone.
"""

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor

MAX_WORKERS = 8


def worker_count() -> int:
    """One worker per core, at most MAX_WORKERS."""
    return min(MAX_WORKERS, os.cpu_count() or 1)


def worker_pool(workers: int) -> ProcessPoolExecutor:
    """Started by spawn, not fork: the parent may hold threads (a progress display, Spark's gateway)."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
