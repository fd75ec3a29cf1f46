"""Processes: one task for each of many numbers, a bounded number of them at a time, each in a process of its own.

A fresh process for every number gives back all memory that it took. None outlives this one, however it ends.
"""

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from index_builder.memory import capped, cores, processes_of, resident
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import IndexSettings

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TOKIO_WORKER_THREADS", "RAYON_NUM_THREADS")
PARENT_DIED = 1
"""prctl: a signal to get when the parent dies."""


def run_shards(task: Callable[[int], int], shards: Sequence[int], settings: IndexSettings, progress: Progress) -> None:
    """Encode `shards` by `task`, which returns how many items there were, within the memory that the build may take."""
    if not shards:
        return
    processes = min(processes_of(settings), len(shards))
    limit = (settings.build_memory_bytes - resident()) // processes
    with progress.step(f"encode {len(shards)} shards") as step:
        if len(shards) == 1:  # not worth a process
            with capped(settings.build_memory_bytes):
                step.advance(task(shards[0]))
        else:
            run_each(task, shards, processes, max(1, cores() // processes), limit, step.advance)


def run_each(
    task: Callable[[int], Any],
    numbers: Sequence[int],
    processes: int,
    threads: int,
    limit: int,
    done: Callable[[Any], None],
) -> None:
    """Call `task(number)` for each number and `done` with each answer; everything of `task` and its answer is pickled.

    `threads` and `limit` (bytes of memory) are of each process. Raises what the first failing one raised, or
    LookalikeError when it was killed; then, and when this process is interrupted, the others end at once.
    """
    waiting, running = list(numbers), dict[Any, tuple[int, SpawnProcess]]()
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                number = waiting.pop(0)
                with _environment(threads):
                    pipe, process = _start(task, number, limit)
                running[pipe] = number, process
            for ready in wait(list(running)):
                number, process = running.pop(ready)
                done(_answer(ready, number, process, limit))
    finally:
        for _, process in running.values():
            process.kill()
        for _, process in running.values():
            process.join()


def _start(task: Callable[[int], Any], number: int, limit: int) -> tuple[Connection, SpawnProcess]:
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(theirs, task, number, limit, os.getpid()), daemon=True)
    process.start()
    theirs.close()  # so that its end is heard when the process dies
    return ours, process


def _run(pipe: Connection, task: Callable[[int], Any], number: int, limit: int, parent: int) -> None:
    """In the new process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and ends us
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DIED, signal.SIGKILL)
        if os.getppid() != parent:
            return
    try:
        with capped(limit):
            answer = task(number)
    except LookalikeError as error:
        pipe.send((None, error))
    except Exception:
        pipe.send((None, RuntimeError(traceback.format_exc())))
    else:
        pipe.send((answer, None))


def _answer(pipe: Any, number: int, process: SpawnProcess, limit: int) -> Any:
    try:
        answer, error = pipe.recv()
    except EOFError:
        process.join()
        raise LookalikeError(
            f"the process of number {number} ended with {_ending(process.exitcode)}. It could have {limit:,} bytes of "
            "memory, its share of index.build_memory_bytes: what ends so wanted more of it as a rule. Raise that, or "
            "lower index.processes or index.shard_items and pin the build again; what is finished stays"
        ) from None
    process.join()
    if error is not None:
        raise error
    return answer


def _ending(code: int | None) -> str:
    return f"signal {-code} ({signal.Signals(-code).name})" if code is not None and code < 0 else f"exit status {code}"


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    """What a process that is started within the block finds."""
    before = {name: os.environ.get(name) for name in THREADS}
    try:
        os.environ.update(dict.fromkeys(THREADS, str(threads)))
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
