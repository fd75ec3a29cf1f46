"""Gathering against the real embedded log, compared with what was appended."""

import time

import pytest

from beam.gather import Gatherer, Source
from lookalike.contracts.change import Topic, partition_of
from lookalike.contracts.settings import load_settings
from lookalike.storage.log.opening import open_log
from lookalike.storage.log.port import Message

KEYS = [next(b"%d" % n for n in range(99) if partition_of(b"%d" % n, 2) == p) for p in (0, 1)]


@pytest.fixture
def log(tmp_path):
    opened = open_log(load_settings(home=tmp_path))
    yield opened
    opened.close()


def append(log, partition: int, *values: bytes, topic: Topic = Topic.CHANGES) -> None:
    log.append(topic, [Message(KEYS[partition], value) for value in values])


def gatherer(log, seconds=0.01, records=100, delays=None, stopped=lambda: False) -> Gatherer:
    return Gatherer(log, seconds, records, delays or {}, stopped)


def values(records) -> list[bytes]:
    return [record.value for record in records]


ZERO, ONE = Source(Topic.CHANGES, 0), Source(Topic.CHANGES, 1)


def test_takes_in_order_and_goes_on_where_it_stopped(log):
    append(log, 0, b"a", b"b", b"c")
    gather = gatherer(log, records=2)
    taken = []
    for _ in range(2):
        gather.new_bundle()
        taken.append(values(gather.take(ZERO, (taken and 2) or 0)))
    assert taken == [[b"a", b"b"], [b"c"]]


def test_another_offset_than_expected_is_read_afresh(log):
    append(log, 0, b"a", b"b", b"c")
    gather = gatherer(log)
    gather.new_bundle()
    assert values(gather.take(ZERO, 0)) == [b"a", b"b", b"c"]
    gather.new_bundle()
    assert values(gather.take(ZERO, 1)) == [b"b", b"c"]


def test_an_idle_partition_does_not_hold_up_the_other(log):
    gather = gatherer(log)
    gather.new_bundle()
    gather.take(ZERO, 0)
    gather.take(ONE, 0)
    append(log, 1, b"x")
    gather.new_bundle()
    looks = []
    read, log_read = log.read, []
    log.read = lambda *arguments: log_read.append(arguments) or read(*arguments)
    looks.append(values(gather.take(ZERO, 0)))
    looks.append(values(gather.take(ONE, 0)))
    assert looks == [[], [b"x"]]
    assert len(log_read) <= 4  # the first partition saw that the other has something and did not wait


def test_a_bundle_without_records_ends(log):
    gather = gatherer(log)
    gather.new_bundle()
    assert gather.take(ZERO, 0) == []


def test_bundles_keep_their_distance_unless_many_records_wait(log, monkeypatch):
    slept = []
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(
        time, "sleep", lambda seconds: slept.append(seconds) or clock.__setitem__(0, clock[0] + seconds)
    )
    gather = gatherer(log, seconds=3.0, records=5)
    append(log, 0, b"1")
    gather.new_bundle()
    assert values(gather.take(ZERO, 0)) == [b"1"]
    assert slept == []  # after a quiet while, at once
    append(log, 0, b"2")
    gather.new_bundle()
    assert values(gather.take(ZERO, 1)) == [b"2"]
    assert sum(slept) == pytest.approx(3.0)
    append(log, 0, *[b"%d" % n for n in range(5)])
    slept.clear()
    gather.new_bundle()
    assert len(gather.take(ZERO, 2)) == 5
    assert slept == []


def test_delayed_records_wait_and_the_order_holds(log, monkeypatch):
    append(log, 0, b"old", topic=Topic.LATER)
    appended = log.read(Topic.LATER, 0, 0, 1)[0].appended_ms / 1000
    time.sleep(0.05)
    append(log, 0, b"new", topic=Topic.LATER)
    source = Source(Topic.LATER, 0)
    gather = gatherer(log, delays={Topic.LATER: 10.0})
    taken = []
    for now in (appended + 9.0, appended + 10.001, appended + 11.0):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        gather.new_bundle()
        taken.append(values(gather.take(source, len(taken) > 1)))
    assert taken == [[], [b"old"], [b"new"]]


def test_told_to_stop_it_takes_nothing(log):
    append(log, 0, b"a")
    gather = gatherer(log, stopped=lambda: True)
    gather.new_bundle()
    assert gather.take(ZERO, 0) == []
