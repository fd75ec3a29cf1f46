"""ReadLog in a real pipeline on the local runner, over the real embedded log."""

import gc
import itertools
import json
import threading
import time
from collections import defaultdict
from pathlib import Path

import apache_beam as beam
import pytest

import beam.gather as gather_module
from beam.local_runner import LocalRunner
from beam.pipelines import drain_file
from beam.read import FIRST, ReadLog
from lookalike.contracts.change import Topic
from lookalike.contracts.settings import load_settings
from lookalike.storage.log.opening import open_log
from lookalike.storage.log.port import Message

pytestmark = pytest.mark.slow
GROUP = "reader"
TOPICS = (Topic.CHANGES, Topic.LATER)


class WriteDownFn(beam.DoFn):
    """One line of JSON per record."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def process(self, element):
        line = [element.topic, element.partition, element.offset, element.previous, element.value.decode(), time.time()]
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def seen(path: Path) -> list[list]:
    """Whole lines only: the last one may just be being written."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def run_until(settings, path: Path, enough, runner=None) -> str:
    """Run the pipeline until `enough()` holds, then drain; its state."""
    drain_file(settings, GROUP).unlink(missing_ok=True)
    drain_file(settings, GROUP).parent.mkdir(parents=True, exist_ok=True)

    def watch() -> None:
        deadline = time.monotonic() + 60
        try:
            while not enough() and time.monotonic() < deadline:
                time.sleep(0.02)
        finally:  # whatever happens here, the pipeline must end
            drain_file(settings, GROUP).touch()

    pipeline = beam.Pipeline(runner=runner or LocalRunner())
    _ = pipeline | ReadLog(settings, TOPICS, GROUP) | beam.ParDo(WriteDownFn(path))
    watcher = threading.Thread(target=watch)
    watcher.start()
    result = pipeline.run()
    watcher.join()
    return result.state


@pytest.fixture
def settings(tmp_path):
    return load_settings(home=tmp_path, stream={"bundle_records": 7, "retry_seconds": 1.5})


@pytest.fixture
def log(settings):
    opened = open_log(settings)
    yield opened
    opened.close()


def test_all_arrive_once_in_order_with_their_predecessors(settings, log, tmp_path):
    expected = defaultdict(list)

    def produce(count: int, topic: Topic) -> None:
        for n in range(count):
            for at in log.append(topic, [Message(b"k%d" % (n % 5), b"%s-%d" % (topic.encode(), n))]):
                expected[topic, at.partition].append((at.offset, f"{topic}-{n}"))

    produce(40, Topic.CHANGES)
    produce(10, Topic.LATER)
    parked_at = {r.value.decode(): r.appended_ms / 1000 for p in (0, 1) for r in log.read(Topic.LATER, p, 0, 99)}
    path = tmp_path / "seen"
    more = threading.Timer(4.0, produce, (30, Topic.CHANGES))  # while it runs
    more.start()
    assert run_until(settings, path, lambda: len(seen(path)) >= 80) == "DONE"
    more.join()
    found, last = defaultdict(list), {}
    for topic, partition, offset, previous, value, at in seen(path):
        assert previous == last.get((topic, partition), FIRST)
        last[topic, partition] = offset
        found[topic, partition].append((offset, value))
        if topic == Topic.LATER:
            assert at - parked_at[value] >= settings.stream.retry_seconds
    assert found == expected


def test_goes_on_where_its_group_committed(settings, log, tmp_path):
    log.append(Topic.CHANGES, [Message(b"key", b"%d" % n) for n in range(9)])
    partition = next(p for p in (0, 1) if log.high_watermark(Topic.CHANGES, p))
    log.commit(GROUP, Topic.CHANGES, {partition: 6})
    path = tmp_path / "seen"
    assert run_until(settings, path, lambda: len(seen(path)) >= 3) == "DONE"
    assert [(line[2], line[3]) for line in seen(path)] == [(6, FIRST), (7, 6), (8, 7)]


def test_a_drain_reads_no_further(settings, log, tmp_path):
    log.append(Topic.CHANGES, [Message(b"key", b"%d" % n) for n in range(9)])
    path = tmp_path / "seen"
    assert run_until(settings, path, lambda: True) == "DONE"
    assert len(seen(path)) <= settings.stream.bundle_records


def chains() -> int:
    return sum(isinstance(thing, itertools.chain) for thing in gc.get_objects())


def chains_after(settings, path: Path, bundles: int, runner) -> int:
    """How many iterator chains the runner keeps after so many bundles."""
    counted, before = [], chains()
    started = time.monotonic()

    def enough() -> bool:
        if time.monotonic() - started < bundles * gather_module.IDLE_SECONDS * 2 + 3:
            return False
        counted.append(chains() - before)
        return True

    run_until(settings, path, enough, runner)
    return counted[0]


def test_the_local_runner_does_not_grow_with_bundles(settings, log, tmp_path, monkeypatch):
    monkeypatch.setattr(gather_module, "IDLE_SECONDS", 0.02)
    assert chains_after(settings, tmp_path / "seen", 50, LocalRunner()) < 20
