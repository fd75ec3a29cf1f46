"""What every log promises, over each adapter: the embedded file, and Kafka on a real broker."""

import os
import random
import threading
import time
import zlib

import pytest

from lookalike.contracts.change import Position, Topic
from lookalike.contracts.errors import SettingsError
from lookalike.storage.log.limits import MESSAGE_BYTES, MessageTooLarge
from lookalike.storage.log.opening import open_log, tidy_log
from lookalike.storage.log.port import LogUnavailable, Message

LONG = 60.0  # a wait that a passing test never sits out


def messages(count: int, seed: int = 0) -> list[Message]:
    chance = random.Random(seed)
    return [Message(f"k{chance.randrange(9)}".encode(), chance.randbytes(chance.randrange(3000))) for _ in range(count)]


def everything(log, topic: Topic, limit: int = 1000) -> dict[int, list]:
    """All records by partition, read up to the high watermark."""
    found: dict[int, list] = {}
    for partition in range(log.partitions):
        records, offset = found.setdefault(partition, []), log.low_watermark(topic, partition)
        while offset < log.high_watermark(topic, partition):
            got = log.read(topic, partition, offset, limit)
            records += got
            offset = got[-1].offset + 1
    return found


def test_offsets_grow_by_one_and_reads_give_back_what_was_appended(log):
    before = time.time_ns() // 1_000_000
    given = messages(300)
    places = [place for start in range(0, 300, 7) for place in log.append(Topic.CHANGES, given[start : start + 7])]
    after = time.time_ns() // 1_000_000
    expected: dict[int, list] = {0: [], 1: []}
    for message, place in zip(given, places, strict=True):
        assert place == Position(zlib.crc32(message.key) % 2, len(expected[place.partition]))
        expected[place.partition].append((place.offset, message.key, message.value))
    assert all(expected.values()), "the keys should fall into both partitions"
    for limit in (1000, 7):
        found = everything(log, Topic.CHANGES, limit)
        assert {p: [(r.offset, r.key, r.value) for r in records] for p, records in found.items()} == expected
    records = [record for part in found.values() for record in part]
    assert all(before <= record.appended_ms <= after for record in records)
    assert all(record.partition == partition for partition, part in found.items() for record in part)


def test_a_read_starts_anywhere_and_keeps_to_its_limit(log):
    log.append(Topic.CHANGES, [Message(b"a", str(number).encode()) for number in range(20)])
    partition = zlib.crc32(b"a") % 2
    for offset, limit, expected in ((0, 5, range(5)), (13, 3, range(13, 16)), (4, 99, range(4, 20)), (19, 1, [19])):
        assert [int(r.value) for r in log.read(Topic.CHANGES, partition, offset, limit)] == list(expected)
    assert log.read(Topic.CHANGES, partition, 20, 5) == []
    assert log.read(Topic.CHANGES, partition, 20, 5, wait_seconds=0.05) == []
    assert log.read(Topic.CHANGES, partition, 500, 5, wait_seconds=0.05) == []
    assert log.read(Topic.CHANGES, 1 - partition, 0, 5) == []


def test_what_was_acknowledged_is_read_at_once_even_without_a_wait(log):
    for number in range(30):
        place = log.append(Topic.LATER, [Message(b"a", str(number).encode())])[0]
        got = log.read(Topic.LATER, place.partition, place.offset, 10)
        assert [int(record.value) for record in got] == [number]


def test_topics_do_not_mix_and_empty_ones_are_empty(log):
    assert log.append(Topic.REFUSED, []) == []
    assert log.append(Topic.REFUSED, [Message(b"", b"")])[0].offset == 0
    assert [(r.key, r.value) for r in log.read(Topic.REFUSED, 0, 0, 5)] == [(b"", b"")]
    for topic in (Topic.CHANGES, Topic.UPDATES, Topic.REPORTS):
        assert [log.high_watermark(topic, p) for p in (0, 1)] == [0, 0]
        assert [log.low_watermark(topic, p) for p in (0, 1)] == [0, 0]
        assert log.read(topic, 0, 0, 5) == []


def test_places_that_no_log_has_are_refused(log):
    for call in (
        lambda: log.read(Topic.CHANGES, 2, 0, 1),
        lambda: log.read(Topic.CHANGES, 0, -1, 1),
        lambda: log.high_watermark(Topic.CHANGES, -1),
        lambda: log.commit("g", Topic.CHANGES, {2: 0}),
    ):
        with pytest.raises(ValueError, match=r"partition|offset"):
            call()


def test_a_child_killed_right_after_the_acknowledgement_lost_nothing(log, start_child):
    child = start_child("append", "40")
    assert child.line() == "ready"
    child.tell()
    places = child.line()
    child.kill()
    found = everything(log, Topic.CHANGES)
    by_place = {(r.partition, r.offset): (r.key, r.value) for part in found.values() for r in part}
    assert len(places) == len(by_place) == 40
    for number, place in enumerate(places):
        assert by_place[tuple(place)] == (f"item-{number}".encode(), f"value {number}".encode())


def test_a_waiting_read_wakes_when_another_process_appends(log, start_child):
    child = start_child("append", "1")
    assert child.line() == "ready"
    partition = zlib.crc32(b"item-0") % 2
    got = []
    waiting = threading.Thread(
        target=lambda: got.extend(log.read(Topic.CHANGES, partition, 0, 10, wait_seconds=20 * LONG)), daemon=True
    )
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive(), "there was nothing to read yet"
    child.tell()
    waiting.join(LONG)
    assert not waiting.is_alive()
    assert [record.value for record in got] == [b"value 0"]


def test_commits_are_kept_by_group_topic_and_partition(log, log_settings):
    assert log.committed("job", Topic.CHANGES) == {}
    log.commit("job", Topic.CHANGES, {0: 5, 1: 7})
    log.commit("job", Topic.CHANGES, {1: 9})
    log.commit("other", Topic.CHANGES, {0: 1})
    log.commit("job", Topic.LATER, {1: 3})
    log.commit("job", Topic.UPDATES, {})
    again = open_log(log_settings)
    for opened in (log, again):
        assert opened.committed("job", Topic.CHANGES) == {0: 5, 1: 9}
        assert opened.committed("other", Topic.CHANGES) == {0: 1}
        assert opened.committed("job", Topic.LATER) == {1: 3}
        assert opened.committed("job", Topic.UPDATES) == {}
    again.close()


def test_the_largest_message_passes_and_a_larger_one_is_refused_before_anything_is_written(log):
    value = os.urandom(MESSAGE_BYTES - 1)
    place = log.append(Topic.CHANGES, [Message(b"a", value)])[0]
    with pytest.raises(MessageTooLarge, match="message 1 of 2"):
        log.append(Topic.CHANGES, [Message(b"a", b"fits"), Message(b"a", value + b"x")])
    assert log.high_watermark(Topic.CHANGES, place.partition) == 1
    assert log.read(Topic.CHANGES, place.partition, 0, 5)[0].value == value


def test_threads_of_several_processes_append_at_once_without_loss_doubles_or_disorder(log, start_child):
    children = [start_child("write", f"child{number}", "4", "150") for number in range(3)]
    said = [line for child in children for line in child.lines()]
    assert len(said) == 3 * 4 * 150
    found = everything(log, Topic.CHANGES)
    for part in found.values():
        assert [record.offset for record in part] == list(range(len(part)))
    by_key: dict[str, list[int]] = {}
    places = {}
    for record in (record for part in found.values() for record in part):
        number = int(record.value.split(b":")[2])
        by_key.setdefault(record.key.decode(), []).append(number)
        places[record.key.decode(), number] = [record.partition, record.offset]
    assert by_key == {f"child{child}-{thread}": list(range(150)) for child in range(3) for thread in range(4)}
    assert all(places[key, number] == place for key, number, *place in said)


def test_threads_read_one_partition_at_different_places(log):
    log.append(Topic.UPDATES, [Message(b"a", str(number).encode()) for number in range(400)])
    partition, results = zlib.crc32(b"a") % 2, {}

    def run(start: int) -> None:
        offset, got = start, []
        while records := log.read(Topic.UPDATES, partition, offset, 23):
            got += [int(record.value) for record in records]
            offset = records[-1].offset + 1
        results[start] = got

    threads = [threading.Thread(target=run, args=(start,)) for start in (0, 57, 200, 399)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {start: list(range(start, 400)) for start in (0, 57, 200, 399)}


def test_another_number_of_partitions_is_a_clear_error(log, log_settings):
    log.append(Topic.CHANGES, [Message(b"a", b"1")])
    other = log_settings.model_copy(update={"log": log_settings.log.model_copy(update={"partitions": 3})})
    with pytest.raises(SettingsError, match=r"has 2 partitions .*log.partitions = 3.* set log.partitions = 2") as error:
        open_log(other).high_watermark(Topic.CHANGES, 2)
    assert "begin a new log" in str(error.value)


def test_a_closed_log_says_so_and_the_next_one_has_everything(log, log_settings):
    place = log.append(Topic.CHANGES, [Message(b"a", b"1")])[0]
    log.close()
    for call in (
        lambda: log.append(Topic.CHANGES, [Message(b"a", b"2")]),
        lambda: log.read(Topic.CHANGES, place.partition, 0, 1),
        lambda: log.high_watermark(Topic.CHANGES, 0),
        lambda: log.committed("g", Topic.CHANGES),
    ):
        with pytest.raises(LogUnavailable, match="closed"):
            call()
    again = open_log(log_settings)
    assert [record.value for record in everything(again, Topic.CHANGES)[place.partition]] == [b"1"]
    assert tidy_log(again) == 0
    again.close()
