"""Slow hosts: pictures from a host that lately kept bundles waiting are not waited for again for a while.

One slow picture server would otherwise cost every change that shares a bundle with its pictures the longest wait.
"""

import time
from collections.abc import Callable
from urllib.parse import urlsplit

SLOW_IN_A_ROW = 3
AVOID_SECONDS = 10.0


class SlowHosts:
    """For one thread. Pictures on local disk have no host and are always waited for."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._slow: dict[str, int] = {}
        self._until: dict[str, float] = {}

    def avoid(self, image_path: str) -> bool:
        """Whether this picture shall be fetched aside from the start."""
        host = _host(image_path)
        until = self._until.get(host)
        if until is None:
            return False
        if self._clock() < until:
            return True
        del self._until[host]
        self._slow[host] = SLOW_IN_A_ROW - 1  # one more is enough
        return False

    def saw(self, image_path: str, slow: bool) -> None:
        """Note how a fetch went."""
        host = _host(image_path)
        if not host:
            return
        if not slow:
            self._slow.pop(host, None)
            return
        self._slow[host] = self._slow.get(host, 0) + 1
        if self._slow[host] >= SLOW_IN_A_ROW:
            self._until[host] = self._clock() + AVOID_SECONDS


def _host(image_path: str) -> str:
    if "://" not in image_path:
        return ""
    try:
        return urlsplit(image_path).netloc
    except ValueError:
        return ""
