"""Latency of single queries, alone and under concurrent callers, in milliseconds.

Percentiles of whole calls as a caller sees them; the first calls are thrown away because they fault pages in.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

CONCURRENT_CALLERS = 10
WARM_UP = 20


@dataclass(frozen=True)
class Latency:
    """Milliseconds per call over `calls` calls made by `callers` threads, and calls per second of them together."""

    p50_ms: float
    p99_ms: float
    mean_ms: float
    calls: int
    callers: int
    per_second: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure_latency(call: Callable[[int], object], queries: int, callers: int = 1, warm_up: int = WARM_UP) -> Latency:
    """Time `call(i)` once for each i in 0..queries-1, from `callers` threads at once, after `warm_up` calls.

    An exception of `call` is raised: a query that fails has no latency.
    """
    if queries < 1 or callers < 1:
        raise ValueError(f"latency needs at least one query and one caller; got {queries} and {callers}")
    for i in range(warm_up):
        call(i % queries)
    started = time.perf_counter()
    if callers == 1:
        taken = [_timed(call, i) for i in range(queries)]
    else:
        with ThreadPoolExecutor(callers) as pool:
            taken = list(pool.map(lambda i: _timed(call, i), range(queries)))
    elapsed = time.perf_counter() - started
    p50, p99 = np.percentile(taken, [50, 99])
    return Latency(float(p50), float(p99), float(np.mean(taken)), queries, callers, queries / elapsed)


def _timed(call: Callable[[int], object], i: int) -> float:
    started = time.perf_counter()
    call(i)
    return 1e3 * (time.perf_counter() - started)
