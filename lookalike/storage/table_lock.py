"""Table lock: one writer of a table at a time on this machine, however it was started.

Delta lets the loser of two overlapping MERGEs fail and start again, which after an hour of work is dear, and a snapshot
that withdraws items must not overlap with another one. A schedule's own limits do not reach those who run a command by
hand or a backfill. The system frees the lock when its holder dies, so nothing is left to clean up. Between machines
the schedule's pool does the same, and Delta's own conflict check stands behind both.
"""

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

LOG = logging.getLogger("lookalike.tables")
POLL_SECONDS = 0.2
REMIND_SECONDS = 60.0


@contextmanager
def only_writer(locks: Path, table: str, what: str) -> Iterator[None]:
    """Hold `table` within this block; waits for whoever holds it and says in the log who that is.

    `locks`: folder of the lock files; `what`: the work, as others who wait will read it.
    """
    locks.mkdir(parents=True, exist_ok=True)
    path = locks / f"{table}.lock"
    with path.open("a+") as file:
        _take(file.fileno(), path, table)
        os.ftruncate(file.fileno(), 0)
        file.write(json.dumps({"what": what, "pid": os.getpid(), "since": datetime.now(UTC).isoformat("T", "seconds")}))
        file.flush()
        try:
            yield
        finally:
            os.ftruncate(file.fileno(), 0)


def _take(descriptor: int, path: Path, table: str) -> None:
    next_word = 0.0
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= next_word:
                LOG.info("waiting to write table %s: %s", table, _holder(path))
                next_word = time.monotonic() + REMIND_SECONDS
            time.sleep(POLL_SECONDS)


def _holder(path: Path) -> str:
    try:
        known = json.loads(path.read_text())
        return f"{known['what']} (process {known['pid']}) holds it since {known['since']}"
    except (OSError, ValueError, KeyError):  # it is just being taken or let go
        return "another process holds it"
