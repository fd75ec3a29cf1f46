"""The file of the embedded log: connections, transactions, errors. What is in it is the adapter's matter.

One writer at a time, over all processes, by a lock beside the file. SQLite's own lock would do for the data, but its
waiting is unfair, and releases before 3.51.3 can damage a file when one connection checkpoints while another commits:
here both happen under the lock only. Threads that write at once share one commit, and so one flush to the disk.
"""

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from lookalike.contracts.errors import LookalikeError
from lookalike.storage.log.port import LogUnavailable
from lookalike.storage.log.wakeup import Wakeup, ring

BUSY_SECONDS = 10.0
RETRY_SECONDS = 0.001
WAL_KEPT_BYTES = 64 * 2**20
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_REMEDY = {
    sqlite3.SQLITE_FULL: "The disk is full: make room.",
    sqlite3.SQLITE_READONLY: "It may not be written: check the rights of the file and of its folder.",
    sqlite3.SQLITE_CANTOPEN: "Check that the folder is there and may be written.",
    sqlite3.SQLITE_IOERR: "Check the disk: free room, quota, errors in the system's journal.",
    sqlite3.SQLITE_BUSY: f"Another process has locked it for more than {BUSY_SECONDS:g} s: find and end it.",
}

Result = TypeVar("Result")
Work = Callable[[sqlite3.Connection], Result]


class LogDamaged(LookalikeError):
    """The log's file is not one, or is broken. Trying again does not help."""


class _Job:
    """A piece of work that waits for a commit, alone or with others."""

    def __init__(self, work: Work[Any]) -> None:
        self.work = work
        self.result: Any = None
        self.error: Exception | None = None
        self.done = False


class LogFile:
    """One SQLite file in WAL mode with fsync before each commit returns. Safe for threads and processes."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._writer_path = self.path.with_name(self.path.name + "-writer")  # locked and touched by who writes
        self._wakeup = Wakeup(self._writer_path)
        self._process = os.getpid()
        self._writing = threading.Lock()
        self._guard = threading.Lock()  # of the three below
        self._waiting: list[_Job] = []
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        self._identity: tuple[int, int] | None = None
        with self._explained():
            self.path.parent.mkdir(parents=True, exist_ok=True)

    def remember_identity(self) -> None:
        """From here on, another file under this name is an error: what is written to a removed file is lost."""
        self._identity = _identity(self.path)

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """A connection for this block alone. SQLite's errors leave as LogUnavailable or LogDamaged."""
        with self._explained():
            with self._guard:
                self._refuse_if_not_ours()
                connection = self._idle.pop() if self._idle else None
            connection = connection or self._connect()
            try:
                yield connection
            except BaseException:
                connection.close()  # also ends a transaction that is half done
                raise
            with self._guard:
                if not self._closed:
                    self._idle.append(connection)
                    return
            connection.close()

    def snapshot(self, connection: sqlite3.Connection, work: Work[Result]) -> Result:
        """What `work` reads, all of one moment."""
        return _patiently(connection, "BEGIN", work)

    def read(self, work: Work[Result]) -> Result:
        """`snapshot` on a connection of its own."""
        with self.connection() as connection:
            return self.snapshot(connection, work)

    def write(self, work: Work[Result]) -> Result:
        """Run `work` in a transaction and return when it is on disk. On an error nothing of it is there.

        `work` may run again from its start, and shares its transaction with what other threads write meanwhile.
        """
        job = _Job(work)
        with self._guard:
            self._waiting.append(job)
        with self._writing:
            if not job.done:  # else the thread before took it along
                with self._guard:
                    jobs, self._waiting = self._waiting, []
                self._commit(jobs)
        if job.error is not None:
            raise type(job.error)(*job.error.args) from job.error  # each thread its own
        return cast("Result", job.result)

    def exclusively(self, work: Work[Result]) -> Result:
        """Run `work` outside of a transaction while no process writes: for checkpoints and the making of the file."""
        with self._writing, self._lock(), self.connection() as connection:
            return work(connection)

    def wait_for_change(self, connection: sqlite3.Connection, seen: int, deadline: float) -> bool:
        """Whether another connection, of any process, committed after `data_version` gave `seen`."""
        while True:
            signals = self._wakeup.count()
            if self.data_version(connection) != seen:
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._wakeup.wait(signals, left)

    def data_version(self, connection: sqlite3.Connection) -> int:
        """Differs from the last one of this connection when another one committed in between; costs microseconds."""
        return int(connection.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Close all connections; those in use close when they are given back."""
        with self._guard:
            self._closed = True
            idle, self._idle = self._idle, []
        self._wakeup.close()
        for connection in idle:
            connection.close()

    def _refuse_if_not_ours(self) -> None:
        if self._closed:
            raise LogUnavailable(f"the log {self.path} was closed by this process")
        if self._process != os.getpid():
            raise LogUnavailable(
                f"the log {self.path} was opened by process {self._process}, which this one was forked from. SQLite "
                "does not allow that: open it again here."
            )
        if self._identity is not None and _identity(self.path) != self._identity:
            raise LogUnavailable(
                f"the log {self.path} was removed or replaced while it was in use. Put it back, or restart every "
                "process that uses it."
            )

    def _commit(self, jobs: list[_Job]) -> None:
        """One transaction for all jobs; each gets its result, or all get the error."""
        try:
            with self._lock() as descriptor, self.connection() as connection:
                results = _patiently(connection, "BEGIN IMMEDIATE", lambda open_: [job.work(open_) for job in jobs])
                ring(descriptor)
            for job, result in zip(jobs, results, strict=True):
                job.result = result
        except Exception as error:
            for job in jobs:
                job.error = error
        finally:
            for job in jobs:
                job.done = True

    @contextmanager
    def _lock(self) -> Iterator[int]:
        """Hold the write lock of all processes. The system lets go of it when its holder dies."""
        with self._explained():
            descriptor = os.open(self._writer_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                _lock_patiently(descriptor)
                yield descriptor
            finally:
                os.close(descriptor)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=0.0, isolation_level=None, check_same_thread=False)
        try:
            for pragma in ("synchronous = FULL", f"journal_size_limit = {WAL_KEPT_BYTES}", "cache_size = -4096"):
                connection.execute(f"PRAGMA {pragma}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise explain(error, self.path) from error
        except OSError as error:
            raise LogUnavailable(f"the log {self.path} cannot be used: {error}") from error


def explain(error: sqlite3.Error, path: Path) -> LookalikeError:
    """SQLite's error in our words: what, where, what to do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _DAMAGED:
        return LogDamaged(
            f"{path} is damaged or is no log: {error}. Stop every process that uses it, keep it and its -wal file "
            "aside for a look, and put a backup in its place; without one, an empty log is made at the next start "
            "and changes since the last nightly merge must be sent again by their sources."
        )
    remedy = _REMEDY.get(code, "")
    return LogUnavailable(f"the log {path} cannot be used: {error}. Nothing was acknowledged. {remedy}".rstrip())


def _patiently(connection: sqlite3.Connection, begin: str, work: Work[Result]) -> Result:
    """Run `work` between `begin` and COMMIT, from the start again while another connection is in the way."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute(begin)
            result = work(connection)
            connection.execute("COMMIT")
            return result
        except sqlite3.OperationalError as error:
            if connection.in_transaction:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(RETRY_SECONDS)


def _lock_patiently(descriptor: int) -> None:
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise LogUnavailable(
                    f"another process has held the write lock of the log for more than {BUSY_SECONDS:g} s. "
                    "Nothing was acknowledged. Find the process that is stopped and end it."
                ) from None
            time.sleep(RETRY_SECONDS)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
