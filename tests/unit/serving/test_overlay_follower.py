"""The follower brings every change into the overlay: replay, then as they come, and never past what it cannot read."""

import json
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from lookalike.contracts.change import Position, Topic, partition_of
from lookalike.contracts.settings import Settings
from lookalike.contracts.vector_update import UnknownSchema, VectorUpdate
from lookalike.search.overlay import Overlay
from lookalike.serving import right_of_way
from lookalike.serving.metrics import Metrics
from lookalike.serving.overlay_follower import ChangesExpired, OverlayFollower, UnreadableUpdate
from lookalike.serving.right_of_way import RightOfWay
from lookalike.storage.log.port import LogUnavailable, Message

HOURS_200_MS = 200 * 3_600_000


@pytest.fixture
def follow(log, sealed):
    made = []

    def make(offsets=None, log=log, budget=2**30, way=None):
        overlay = Overlay(sealed, sealed.manifest.space.fingerprint, budget)
        metrics = Metrics()
        settings = Settings(serving={"overlay_poll_seconds": 0.002})
        follower = OverlayFollower(log, overlay, offsets or {}, metrics, settings, way)
        follower.metrics = metrics
        made.append(follower)
        return follower

    yield make
    for follower in made:
        follower.stop()
        follower.join()


def until(holds, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def sample(follower, name, **labels):
    return follower.metrics.registry.get_sample_value(name, labels)


def touched(follower):
    return follower.overlay.stats().touched


def append_raw(log, value, key=b"first:dog"):
    return log.append(Topic.UPDATES, [Message(key, value)])[0]


def test_searches_go_first_and_a_replay_does_not_wait(follow, stream, monkeypatch):
    monkeypatch.setattr(right_of_way, "LONGEST_SECONDS", 60.0)
    searching = threading.Event()
    searching.set()
    follower = follow(way=RightOfWay(searching.is_set))
    stream.price("first:dog", 7.0)
    assert follower.replay() == 1
    stream.delete("first:cat")
    follower.start()
    time.sleep(0.2)
    assert touched(follower) == 1
    searching.clear()
    until(lambda: touched(follower) == 2)


def test_replay_brings_in_what_there_is_and_following_what_comes(follow, stream):
    stream.price("first:dog", 7.0)
    stream.delete("first:cat")
    follower = follow()
    assert follower.replay() == 2 and touched(follower) == 2
    assert follower.seen() == {p: o for p, o in stream.origins.items() if o >= 0}
    follower.start()
    stream.price("first:pear", 8.0)
    until(lambda: touched(follower) == 3)
    until(lambda: follower.seen() == {p: o for p, o in stream.origins.items() if o >= 0})
    stats = follower.overlay.stats()
    assert (stats.patched, stats.hidden, follower.status().problem) == (2, 1, None)


def test_only_live_changes_count_as_fresh_and_each_once(follow, stream):
    stream.price("first:dog", 7.0, at=datetime.now(UTC) - timedelta(days=3))
    first, second = follow(), follow()
    second.metrics = first.metrics
    second._metrics = first.metrics
    first.replay()
    first.start()
    second.replay()
    second.start()
    stream.price("first:dog", 8.0)
    stream.delete("first:cat")
    stream.delete("first:cat")  # a repeat changes nothing: it is no second observation
    origins = {p: o for p, o in stream.origins.items() if o >= 0}
    until(lambda: all(follower.seen() == origins for follower in (first, second)))
    for follower in (first, second):
        follower.stop()
        follower.join()
    count = "lookalike_change_visible_seconds_count"
    assert sample(first, count, kind="attributes") == 1 and sample(first, count, kind="gone") == 1
    assert sample(first, "lookalike_change_visible_seconds_sum", kind="attributes") < 3_600
    summary = first.metrics.freshness.summary()
    assert summary["all"]["count"] == 2 and set(summary) == {"attributes", "gone", "all"}


def test_replay_starts_where_the_release_ends_and_knows_what_that_covers(follow, stream, log):
    stream.price("first:dog", 7.0)
    covered = {str(p): log.high_watermark(Topic.UPDATES, p) for p in range(2)}
    covers = {p: o for p, o in stream.origins.items() if o >= 0}
    follower = follow(covered)
    assert follower.replay() == 0 and touched(follower) == 0
    assert follower.seen() == covers
    stream.price("first:dog", 8.0)
    again = follow(covered)
    assert again.replay() == 1 and touched(again) == 1


def key_in(partition):
    return next(key for key in (b"mark%d" % number for number in range(100)) if partition_of(key, 2) == partition)


def test_progress_marks_are_seen_and_change_nothing(follow, log):
    for partition in range(2):
        append_raw(log, VectorUpdate(Position(partition, 40 + partition)).encode(), key_in(partition))
    follower = follow()
    follower.replay()
    assert touched(follower) == 0 and follower.seen() == {0: 40, 1: 41}


def test_a_mark_in_another_partition_says_nothing_of_its_own(follow, log):
    append_raw(log, VectorUpdate(Position(1, 40)).encode(), key_in(0))
    follower = follow()
    follower.replay()
    assert follower.seen() == {}


def test_a_release_older_than_the_log_is_refused(follow, stream, log):
    stream.price("first:dog", 7.0)
    stream.price("first:pear", 7.0)
    log.expire(time.time_ns() // 1_000_000 + HOURS_200_MS)
    with pytest.raises(ChangesExpired, match=r"have expired.*build a new release"):
        follow({"0": 0, "1": 0}).replay()
    assert follow({}).replay() == 0  # it says nothing of the log: all that there is


def test_an_offset_beyond_the_log_means_another_log_which_is_replayed_whole(follow, stream, caplog):
    stream.price("first:dog", 7.0)
    follower = follow({"0": 1_000, "1": 1_000})
    assert follower.replay() == 1 and "another log" in caplog.text


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (json.dumps({"schema": 99}).encode(), UnknownSchema),
        (b"{", UnreadableUpdate),
        (b'{"schema": 1}', UnreadableUpdate),
        (b"\xff\x00", UnreadableUpdate),
    ],
)
def test_replay_refuses_what_cannot_be_read_and_names_its_place(follow, stream, log, value, error):
    stream.price("first:dog", 7.0)
    at = append_raw(log, value)
    with pytest.raises(error, match=f"partition {at.partition}, offset {at.offset}"):
        follow().replay()


def test_a_newer_message_stops_its_partition_there_for_good(follow, stream, log, caplog):
    follower = follow()
    follower.replay()
    follower.start()
    stream.price("first:dog", 7.0)
    at = append_raw(log, json.dumps({"schema": 99}).encode())
    stream.price("first:dog", 8.0)
    until(lambda: follower.status().problem)
    said = follower.status().problem
    assert f"offset {at.offset}" in said and "schema 99" in said and "restarted" in said
    until(lambda: touched(follower) == 1)
    assert follower.seen()[at.partition] == at.offset - 1
    until(lambda: follower.status().lag[at.partition].messages == 2)
    until(lambda: follower.status().lag[at.partition].seconds > 0)
    other = next(item for item in ("first:cat", "first:pear", "first:cup", "first:fish", "first:tree")
                 if stream.origin_of(item).partition != at.partition)  # fmt: skip
    stream.price(other, 9.0)
    until(lambda: touched(follower) == 2)
    assert follower.overlay.stats().patched == 2 and follower.seen()[at.partition] == at.offset - 1


class Fading:
    """A log that can be away."""

    def __init__(self, log):
        self._log, self.away = log, False

    def __getattr__(self, name):
        if self.away and name in ("read", "high_watermark", "low_watermark"):
            raise LogUnavailable("the broker is away")
        return getattr(self._log, name)


def test_a_log_that_is_away_is_told_and_followed_again(follow, stream, log):
    fading = Fading(log)
    follower = follow(log=fading)
    follower.replay()
    follower.start()
    fading.away = True
    until(lambda: follower.status().problem == "the broker is away")
    stream.price("first:dog", 7.0)
    until(lambda: (sample(follower, "lookalike_log_errors_total") or 0) >= 2)
    assert touched(follower) == 0
    fading.away = False
    until(lambda: touched(follower) == 1)
    until(lambda: follower.status().problem is None)


def test_a_log_that_is_away_at_replay_is_an_error_and_nothing_is_served(follow, log):
    fading = Fading(log)
    fading.away = True
    with pytest.raises(LogUnavailable):
        follow(log=fading).replay()


def test_changes_that_expire_while_following_are_never_passed_over_in_silence(follow, stream, log):
    follower = follow()
    follower.replay()
    stream.price("first:dog", 7.0)
    log.expire(time.time_ns() // 1_000_000 + HOURS_200_MS)
    follower.start()
    until(lambda: follower.status().problem)
    assert "build a new release" in follower.status().problem


def test_a_replay_of_many_batches_gives_the_last_state(follow, stream, monkeypatch):
    monkeypatch.setattr("lookalike.serving.overlay_follower.REPLAY_BATCH", 7)
    for number in range(50):
        stream.price("first:dog", float(number))
    follower = follow()
    assert follower.replay() == 50
    assert touched(follower) == 1
    assert sample(follower, "lookalike_overlay_updates_total", outcome="patched") == 50
