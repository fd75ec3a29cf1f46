"""How far of `catalogue-changes` an overlay has seen, and requests that wait for more of it without a thread."""

import asyncio
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lookalike.contracts.change import Position


@dataclass(frozen=True, eq=False)
class _Waiter:
    wanted: Mapping[int, int]
    loop: asyncio.AbstractEventLoop
    arrived: asyncio.Event


class SeenOffsets:
    """Highest origin offset by partition. One thread advances it, any event loop waits on it."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._lock = threading.Lock()
        self._waiters: set[_Waiter] = set()

    def seen(self) -> dict[int, int]:
        """Highest offset by partition; a partition of which nothing was seen is absent."""
        return dict(self._seen)

    def missing(self, wanted: Mapping[int, int]) -> dict[int, int]:
        """Those of `wanted` that were not seen yet."""
        seen = self._seen
        return {partition: offset for partition, offset in wanted.items() if seen.get(partition, -1) < offset}

    def advance(self, origins: Iterable[Position]) -> None:
        """Everything up to these places is visible now."""
        seen = dict(self._seen)
        for origin in origins:
            seen[origin.partition] = max(origin.offset, seen.get(origin.partition, -1))
        with self._lock:
            self._seen = seen
            ready = [waiter for waiter in self._waiters if not self.missing(waiter.wanted)]
        for waiter in ready:
            try:
                waiter.loop.call_soon_threadsafe(waiter.arrived.set)
            except RuntimeError:  # its loop has ended, and with it the request
                self._forget(waiter)

    async def wait(self, wanted: Mapping[int, int], seconds: float) -> dict[int, int]:
        """Wait until all of `wanted` was seen, at most `seconds`; what is still missing then."""
        waiter = _Waiter(wanted, asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            if not self.missing(wanted):
                return {}
            self._waiters.add(waiter)
        try:
            async with asyncio.timeout(seconds):
                await waiter.arrived.wait()
        except TimeoutError:
            pass
        finally:
            self._forget(waiter)
        return self.missing(wanted)

    def _forget(self, waiter: _Waiter) -> None:
        with self._lock:
            self._waiters.discard(waiter)
