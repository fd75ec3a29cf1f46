"""Runs one command for a task and sees that nothing of it outlives the task, even when the worker is killed.

Started by path with `python -I`, so that it needs nothing but the standard library: `watch.py PARENT GRACE COMMAND…`.
It becomes the reaper of all that the command starts; when the command ends, is to be stopped (SIGTERM), or the parent
is gone, what is left gets a little time and is then killed. Exit: that of the command, 128 + signal where one ended it.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

LOOK_SECONDS = 1.0
LOOK_CLOSELY_SECONDS = 0.2
EXIT_NOT_STARTED = 127
SIGNAL_BASE = 128
_SET_PARENT_DEATH_SIGNAL, _SET_CHILD_SUBREAPER = 1, 36


def _process_option(option: int, value: int) -> None:
    """prctl of Linux; elsewhere the look at the parent has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _of_the_command() -> None:
    """In the child, before the command: it ends with this watch too, should somebody kill that."""
    _process_option(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


def _reap(child: int) -> tuple[int | None, bool]:
    """Exit code of `child` if it ended just now, and whether any process is left."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code, False
        if pid == 0:
            return code, True
        if pid == child:
            code = os.waitstatus_to_exitcode(status)


def _signal_all(group: int, number: signal.Signals) -> None:
    """To the command's group and to whatever has left it but is ours by adoption."""
    pids = Path("/proc/self/task") / str(os.getpid()) / "children"
    adopted = [int(pid) for pid in pids.read_text().split()] if pids.is_file() else []
    for send, whom in [(os.killpg, group), *((os.kill, pid) for pid in adopted if pid != group)]:
        try:
            send(whom, number)
        except (ProcessLookupError, PermissionError):
            continue


def watch(parent: int, grace: float, command: list[str]) -> int:
    """Run `command` in a session of its own until it and all its children have ended; its exit code.

    grace: seconds between SIGTERM and SIGKILL when it is to stop, and of its children after its own end.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.set_blocking(reader, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda got, _frame: asked.append(got))
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    _process_option(_SET_CHILD_SUBREAPER, 1)
    _process_option(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
    try:
        # No thread runs here, so the child may do something between fork and exec.
        child = subprocess.Popen(command, start_new_session=True, preexec_fn=_of_the_command).pid  # noqa: PLW1509
    except OSError as error:
        sys.stderr.write(f"lookalike: cannot start {command[0]}: {error}\n")
        return EXIT_NOT_STARTED
    code: int | None = None
    stopped, kill_at = False, float("inf")
    while True:
        ended, any_left = _reap(child)
        code = ended if ended is not None else code
        if not any_left:
            break
        if not stopped and (asked or os.getppid() != parent):
            stopped, kill_at = True, min(kill_at, time.monotonic() + grace)
            _signal_all(child, signal.SIGTERM)
        if code is not None:
            kill_at = min(kill_at, time.monotonic() + grace)
        if time.monotonic() >= kill_at:
            _signal_all(child, signal.SIGKILL)
        select.select([reader], [], [], LOOK_CLOSELY_SECONDS if code is not None or stopped else LOOK_SECONDS)
        _drain(reader)
    if code is None:
        return SIGNAL_BASE + signal.SIGKILL
    return code if code >= 0 else SIGNAL_BASE - code


def _drain(reader: int) -> None:
    try:
        os.read(reader, 4096)
    except BlockingIOError:
        return


if __name__ == "__main__":
    sys.exit(watch(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
