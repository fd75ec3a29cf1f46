"""The search threads are bounded: a flood is turned away at once, late work is not begun, the loop stays free."""

import asyncio
import threading

import pytest

from lookalike.serving import workers as module
from lookalike.serving.metrics import Metrics
from lookalike.serving.problems import Overloaded
from lookalike.serving.workers import PENDING_PER_THREAD, Workers


@pytest.fixture
def workers():
    workers = Workers(1, Metrics())
    yield workers
    workers.close()


def test_results_and_errors_come_through(workers):
    async def run():
        assert await workers.run(lambda a, b: a + b, 1, b=2) == 3
        with pytest.raises(ZeroDivisionError):
            await workers.run(lambda: 1 / 0)

    asyncio.run(run())


def test_more_than_the_bound_is_refused_at_once_and_the_loop_stays_free(workers):
    async def run():
        gate = threading.Event()
        waiting = [asyncio.create_task(workers.run(gate.wait)) for _ in range(PENDING_PER_THREAD)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="wait already"):
            await workers.run(gate.wait)
        gate.set()
        assert all(await asyncio.gather(*waiting))
        await asyncio.sleep(0)
        assert await workers.run(lambda: "again") == "again"

    asyncio.run(run())
    assert workers._metrics.registry.get_sample_value("lookalike_overloads_total") == 1
    assert workers._metrics.registry.get_sample_value("lookalike_searches_pending") in (0, 1)


def test_work_whose_time_has_passed_is_not_begun(workers, monkeypatch):
    monkeypatch.setattr(module, "DEADLINE_SECONDS", 0.05)
    begun = []

    async def run():
        gate = threading.Event()
        first = asyncio.create_task(workers.run(gate.wait))
        second = asyncio.create_task(workers.run(begun.append, 1))
        for task in (first, second):
            with pytest.raises(Overloaded):
                await task
        gate.set()

    asyncio.run(run())
    workers._pool.submit(int).result()  # one thread, first in first out: the late one has had its turn
    assert begun == []


def test_overload_is_a_503_that_says_when_to_come_back(client, monkeypatch):
    monkeypatch.setattr(client.app.state.serving.workers, "limit", 0)
    answer = client.post("/v1/search", json={"parts": [{"text": "dog"}]})
    assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
    assert answer.json()["type"] == "urn:lookalike:problem:overloaded"
