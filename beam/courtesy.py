"""Courtesy: the worker steps back behind searches where both want the same cores.

`nice` alone does nothing on many machines: where Linux groups processes by session (sched(7), "The autogroup
feature"), it weighs the processes of one session against each other only, and every session counts the same. A worker
leads a session of its own, so the nice value of that whole group is set too.
"""

import os
from contextlib import suppress
from pathlib import Path

AUTOGROUP = Path("/proc/self/autogroup")


def step_back(nice: int, autogroup: Path = AUTOGROUP) -> None:
    """Give this process, and the session that it leads, this nice value; without such groups, the process alone."""
    os.nice(nice)
    if os.getsid(0) == os.getpid():  # never the session of a terminal that somebody else's programs run in
        with suppress(OSError):  # not Linux, or grouping is off
            autogroup.write_text(str(nice))
