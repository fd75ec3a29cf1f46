"""Latency is counted per call, in milliseconds, and a failing call is not a latency."""

import threading
import time

import pytest

from lookalike.evaluation.latency import measure_latency


def test_percentiles_of_a_callable_with_known_sleeps():
    found = measure_latency(lambda i: time.sleep(0.05 if i == 0 else 0.001), queries=50, warm_up=2)
    assert found.p50_ms >= 1.0
    assert found.p99_ms >= 20.0
    assert found.p50_ms < found.p99_ms
    assert (found.calls, found.callers) == (50, 1)


def test_concurrent_callers_really_run_together():
    together, gate = [], threading.Barrier(10, timeout=20)

    def call(i):
        gate.wait()
        together.append(i)

    found = measure_latency(call, queries=30, callers=10, warm_up=0)
    assert sorted(together) == list(range(30))
    assert found.callers == 10


def test_a_failing_query_is_raised():
    with pytest.raises(ZeroDivisionError):
        measure_latency(lambda i: 1 / (i - 3), queries=5, callers=2, warm_up=0)
