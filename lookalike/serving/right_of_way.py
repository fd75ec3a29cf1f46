"""Right of way: searches first, taking changes in second, where both need the interpreter.

One thread of Python runs at a time. A search gives the interpreter up at every call into C and must then wait for
whoever took it; a group of changes that is taken in beside it costs it as long as the whole group. So the follower
looks between two changes whether a search is running and lets it end first, up to a bound for each group: under
unbroken load changes are late by that, never starved.
"""

import time
from collections.abc import Callable

LONGEST_SECONDS = 0.03
"""In all, for one group of changes."""
NAP_SECONDS = 0.001

Pause = Callable[[], None]


class RightOfWay:
    """Asks `searching`, which must be cheap and safe to call from any thread."""

    def __init__(self, searching: Callable[[], bool]) -> None:
        self._searching = searching

    def group(self) -> Pause:
        """What to call between the changes of one group: returns once no search runs, or the group's time is up."""
        until = time.monotonic() + LONGEST_SECONDS

        def pause() -> None:
            while self._searching() and time.monotonic() < until:
                time.sleep(NAP_SECONDS)

        return pause
