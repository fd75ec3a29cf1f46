"""Ends what a supervisor of Airflow's components leaves behind, however the supervisor itself ended.

It reads its standard input, whose other end the supervisor holds: the end of that pipe is the supervisor's end, clean
or by SIGKILL. Then every process that carries the run's mark in its environment is killed: a scheduler's workers and
their tasks outlive their parents otherwise. Standard library only, since it is there all the time.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

MARK = "AIRFLOW_HOUSE_RUN"
SWEEP_SECONDS = 20.0


def marked(run: str) -> list[int]:
    """Processes of this run that are alive now. Where there is no /proc (macOS), none is found."""
    wanted = f"{MARK}={run}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # gone, or somebody else's
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def sweep(run: str) -> None:
    """SIGKILL all processes of this run, those too that are being born meanwhile."""
    deadline = time.monotonic() + SWEEP_SECONDS
    while (left := marked(run)) and time.monotonic() < deadline:
        for pid in left:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def main() -> None:
    """Wait for the end of standard input, then sweep. The run's mark is the only argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while sys.stdin.buffer.read(65_536):
        pass
    sweep(sys.argv[1])


if __name__ == "__main__":
    main()
