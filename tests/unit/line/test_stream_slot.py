"""The life of a pipeline's workers, with workers that do what the test says instead of running anything."""

from pathlib import Path

import pytest

from lookalike.contracts.settings import load_settings
from lookalike.line import stream_slot
from lookalike.line.stream_slot import DRAIN_SECONDS, SETTLED_SECONDS, Slot


class FakeWorker:
    """The interface of StreamWorker."""

    class process:  # noqa: N801
        returncode = 1

    def __init__(self, said: list[str], number: int) -> None:
        self.said, self.number = said, number
        self.log = Path("its.log")
        self.boot_seconds = 0.0
        self.ready_at = self.went_at = self.running_at = self.drain_at = 0.0
        self.rss_bytes, self.counts, self.ended = 0, {}, False

    def _note(self, word: str) -> None:
        self.said.append(f"{word} {self.number}")

    def go(self) -> None:
        self.went_at = stream_slot.time.monotonic()
        self._note("go")

    def drain(self) -> None:
        if not self.drain_at:
            self.drain_at = stream_slot.time.monotonic()
            self._note("drain")

    def kill(self) -> None:
        self.ended = True
        self._note("kill")

    def tail(self) -> str:
        return "its last words"


@pytest.fixture
def clock(monkeypatch):
    now = [1_000.0]
    monkeypatch.setattr(stream_slot.time, "monotonic", lambda: now[0])
    return now


class Stage:
    """A slot, its workers, and what happened to them."""

    def __init__(self, tmp_path, clock) -> None:
        self.said: list[str] = []
        self.workers: list[FakeWorker] = []
        self.clock = clock
        settings = load_settings(home=tmp_path, stream={"recycle_minutes": 10})
        self.slot = Slot(settings, "enrich", self._start)

    def _start(self, settings, name) -> FakeWorker:
        self.workers.append(FakeWorker(self.said, len(self.workers)))
        self.said.append(f"start {self.workers[-1].number}")
        return self.workers[-1]

    def pass_time(self, seconds: float) -> None:
        self.clock[0] += seconds
        self.slot.tend()

    def run_first(self) -> FakeWorker:
        self.slot.tend()
        self.workers[0].ready_at = self.clock[0]
        self.slot.tend()
        self.workers[0].running_at = self.clock[0]
        return self.workers[0]


@pytest.fixture
def stage(tmp_path, clock):
    return Stage(tmp_path, clock)


def test_a_big_worker_is_replaced_by_one_that_is_ready(stage):
    first = stage.run_first()
    first.rss_bytes = 3 * 2**30
    stage.pass_time(SETTLED_SECONDS + 1)
    assert stage.said == ["start 0", "go 0", "start 1"]
    stage.pass_time(30)
    assert "drain 0" not in stage.said  # the new one still boots
    second = stage.workers[1]
    second.ready_at = stage.clock[0]
    stage.pass_time(0.1)
    assert stage.said[3:] == ["drain 0", "go 1"]
    stage.pass_time(0.3)
    first.ended, second.running_at = True, stage.clock[0]
    stage.pass_time(0.1)
    assert (stage.slot.recycled, stage.slot.worker, stage.slot.crashes) == (1, second, 0)
    assert stage.slot.gaps == [pytest.approx(0.3)]


def test_an_old_worker_is_replaced(stage):
    stage.run_first()
    stage.pass_time(599)
    assert len(stage.workers) == 1
    stage.pass_time(2)
    assert len(stage.workers) == 2


def test_a_crashed_worker_is_followed_by_another_after_growing_pauses(stage, caplog):
    pauses = []
    for number in range(4):
        stage.slot.tend()
        stage.workers[number].ended = True
        waited = 0.0
        while len(stage.workers) == number + 1:
            stage.pass_time(0.5)
            waited += 0.5
        pauses.append(waited)
    assert pauses == [1.5, 2.5, 4.5, 8.5]  # 1, 2, 4 and 8 s, and the look that saw the end
    assert "its last words" in caplog.text and "code 1" in caplog.text


def test_a_replacement_that_crashes_leaves_the_old_worker_at_work(stage):
    first = stage.run_first()
    stage.pass_time(601)
    stage.workers[1].ended = True
    stage.pass_time(0.1)
    assert stage.slot.worker is first and "drain 0" not in stage.said
    stage.pass_time(2)
    assert len(stage.workers) == 3


def test_a_worker_that_does_not_drain_is_killed(stage):
    stage.run_first()
    stage.slot.stop()
    stage.pass_time(0.1)
    stage.pass_time(DRAIN_SECONDS - 1)
    assert stage.said[-1] == "drain 0" and not stage.slot.ended
    stage.pass_time(2)
    assert stage.said[-1] == "kill 0"
    stage.pass_time(0.1)
    assert stage.slot.ended
