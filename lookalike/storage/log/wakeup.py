"""Wakes readers that wait for an append of another process, through inotify on a file that every writer touches.

Looking every few milliseconds would cost each process two per cent of a core while nothing happens. A signal may be
missed (its writer was killed just after the commit): who waits looks again after RECHECK_SECONDS by itself. Where the
system has no inotify, who waits looks every POLL_SECONDS.
"""

import ctypes
import os
import select
import threading
from pathlib import Path

RECHECK_SECONDS = 0.1
POLL_SECONDS = 0.004
GATHER_SECONDS = 0.001  # a burst of appends is one signal
_IN_MODIFY = 0x2
_EVENTS_BYTES = 65_536


def ring(descriptor: int) -> None:
    """Wake all who wait on the file behind `descriptor`."""
    os.pwrite(descriptor, b"\n", 0)


class Wakeup:
    """Signals on one file, shared by all threads of a process. The watching thread starts with the first wait."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._signalled = threading.Condition()
        self._count = 0
        self._started = False
        self._closed = False
        self._notify: int | None = None
        self._stop_read = self._stop_write = -1

    def count(self) -> int:
        """How many signals there were; hand it to `wait`."""
        with self._signalled:
            if not self._started:
                self._start()
            return self._count

    def wait(self, seen: int, seconds: float) -> None:
        """Return at a signal after `count` gave `seen`, or when it is time to look anyway, or after `seconds`."""
        longest = POLL_SECONDS if self._notify is None else RECHECK_SECONDS
        with self._signalled:
            self._signalled.wait_for(lambda: self._count != seen or self._closed, min(seconds, longest))

    def close(self) -> None:
        """Stop the watching thread."""
        with self._signalled:
            if self._notify is not None and not self._closed:
                os.write(self._stop_write, b"\n")
            self._closed = True
            self._signalled.notify_all()

    def _start(self) -> None:
        self._started = True
        self._notify = _watch(self._path)
        if self._notify is not None and not self._closed:
            self._stop_read, self._stop_write = os.pipe()
            threading.Thread(target=self._follow, name="log-wakeup", daemon=True).start()

    def _follow(self) -> None:
        assert self._notify is not None
        try:
            while True:
                ready, _, _ = select.select([self._notify, self._stop_read], [], [])
                if self._stop_read in ready:
                    return
                os.read(self._notify, _EVENTS_BYTES)
                with self._signalled:
                    self._count += 1
                    self._signalled.notify_all()
                threading.Event().wait(GATHER_SECONDS)
        finally:
            for descriptor in (self._notify, self._stop_read, self._stop_write):
                os.close(descriptor)


def _watch(path: Path) -> int | None:
    """A descriptor that gets readable when the file is written to; None where there is no such thing."""
    try:
        system = ctypes.CDLL(None, use_errno=True)
        descriptor = int(system.inotify_init1(os.O_CLOEXEC))
        if descriptor >= 0 and system.inotify_add_watch(descriptor, os.fsencode(path), _IN_MODIFY) >= 0:
            return descriptor
    except (OSError, AttributeError):
        return None
    if descriptor >= 0:
        os.close(descriptor)
    return None
