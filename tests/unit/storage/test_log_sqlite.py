"""The embedded log's own: upkeep against a naive model, errors in plain words, one commit for many, waking up."""

import fcntl
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from lookalike.contracts.change import COMPACTED, Topic, partition_of
from lookalike.contracts.errors import SettingsError
from lookalike.contracts.settings import load_settings
from lookalike.storage.log import sqlite_file, upkeep, wakeup
from lookalike.storage.log.opening import open_log, tidy_log
from lookalike.storage.log.port import LogUnavailable, Message, OffsetExpired
from lookalike.storage.log.sqlite import SqliteLog
from lookalike.storage.log.sqlite_file import LogDamaged, explain

HOUR_MS = 3_600_000


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / "log.db"


@pytest.fixture
def log(path):
    opened = SqliteLog(path, 2, retention_hours=1)
    yield opened
    opened.close()


def at(monkeypatch, now_ms: int) -> None:
    monkeypatch.setattr("lookalike.storage.log.sqlite.time.time_ns", lambda: now_ms * 1_000_000)


def contents(log, topic, partition):
    low = log.low_watermark(topic, partition)
    return [(r.offset, r.key, r.value) for r in log.read(topic, partition, low, 100_000)]


def append_random(log, chance, topic, count):
    """Append one by one; (partition, offset, key, value) of each."""
    rows = []
    for _ in range(count):
        message = Message(f"k{chance.randrange(12)}".encode(), chance.randbytes(20))
        place = log.append(topic, [message])[0]
        rows.append((place.partition, place.offset, message.key, message.value))
    return rows


@pytest.mark.parametrize("chunk", [3, 500])
def test_expiry_deletes_the_old_prefix_and_says_from_where_on_all_is_there(log, monkeypatch, chunk):
    monkeypatch.setattr(upkeep, "CHUNK_RECORDS", chunk)
    chance = random.Random(1)
    rows = []
    for start in (0, 10, 90):  # minutes
        at(monkeypatch, start * 60_000)
        rows += [(start, *row) for row in append_random(log, chance, Topic.UPDATES, 40)]
    assert log.expire(60 * 60_000) == 0, "nothing is older than the hour yet"
    assert log.expire(65 * 60_000) == 40
    kept = [row for row in rows if row[0] != 0]
    for partition in (0, 1):
        mine = [(offset, key, value) for _, p, offset, key, value in kept if p == partition]
        assert contents(log, Topic.UPDATES, partition) == mine
        assert log.low_watermark(Topic.UPDATES, partition) == mine[0][0] > 0
        with pytest.raises(OffsetExpired, match=f"everything below {mine[0][0]} has expired"):
            log.read(Topic.UPDATES, partition, mine[0][0] - 1, 5)


def test_offsets_are_never_given_twice_even_when_all_is_gone(log, path, monkeypatch):
    at(monkeypatch, 0)
    log.append(Topic.CHANGES, [Message(b"a", b"1"), Message(b"a", b"2")])
    partition = partition_of(b"a", 2)
    assert log.expire(2 * HOUR_MS) == 2
    assert log.low_watermark(Topic.CHANGES, partition) == log.high_watermark(Topic.CHANGES, partition) == 2
    assert log.read(Topic.CHANGES, partition, 2, 5) == []
    again = SqliteLog(path, 2, 1)
    assert again.append(Topic.CHANGES, [Message(b"a", b"3")])[0].offset == 2
    again.close()


@pytest.mark.parametrize("chunk", [3, 500])
def test_compaction_keeps_the_latest_of_each_key_and_no_watermark_moves(log, monkeypatch, chunk):
    monkeypatch.setattr(upkeep, "CHUNK_RECORDS", chunk)
    chance = random.Random(2)
    rows, before = [], [0, 0]
    for _ in range(3):
        rows += append_random(log, chance, Topic.UPDATES, 60)
        other = append_random(log, chance, Topic.CHANGES, 5)
        before = [log.high_watermark(Topic.UPDATES, partition) for partition in (0, 1)]
        latest = {key: (partition, offset, key, value) for partition, offset, key, value in rows}
        deleted = log.compact(Topic.UPDATES)
        expected = sorted(latest.values())
        assert [(p, *row) for p in (0, 1) for row in contents(log, Topic.UPDATES, p)] == expected
        assert deleted == len(rows) - len(expected)
        rows = expected
        assert log.compact(Topic.UPDATES) == 0
    assert [log.high_watermark(Topic.UPDATES, partition) for partition in (0, 1)] == before
    assert [log.low_watermark(Topic.UPDATES, partition) for partition in (0, 1)] == [0, 0]
    kept = sum(len(contents(log, Topic.CHANGES, partition)) for partition in (0, 1))
    assert kept == 3 * len(other), "a topic that is not compacted is left alone"


def test_compaction_that_dies_half_way_loses_no_latest_record(log, monkeypatch):
    monkeypatch.setattr(upkeep, "CHUNK_RECORDS", 4)
    rows = append_random(log, random.Random(3), Topic.UPDATES, 100)
    delete, calls = upkeep._delete, []

    def dying(connection, places):
        calls.append(places)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return delete(connection, places)

    monkeypatch.setattr(upkeep, "_delete", dying)
    with pytest.raises(KeyboardInterrupt):
        log.compact(Topic.UPDATES)
    monkeypatch.setattr(upkeep, "_delete", delete)
    latest = {key: (partition, offset, key, value) for partition, offset, key, value in rows}
    found = [(p, *row) for p in (0, 1) for row in contents(log, Topic.UPDATES, p)]
    assert set(latest.values()) <= set(found) < set(rows)
    assert log.compact(Topic.UPDATES) == len(found) - len(latest)


def test_only_compacted_topics_are_compacted_and_tidy_does_them_all(log):
    for topic in set(Topic) - COMPACTED:
        with pytest.raises(ValueError, match="not compacted"):
            log.compact(topic)
    for topic in Topic:
        log.append(topic, [Message(b"a", b"1"), Message(b"a", b"2")])
    assert tidy_log(log) == len(COMPACTED)


def test_threads_that_write_at_once_share_a_commit(log, path, monkeypatch):
    sizes, commit = [], log._file._commit
    monkeypatch.setattr(log._file, "_commit", lambda jobs: (sizes.append(len(jobs)), commit(jobs)))
    places = []
    with (path.parent / "log.db-writer").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        threads = [
            threading.Thread(target=lambda n=n: places.extend(log.append(Topic.CHANGES, [Message(b"a", b"%d" % n)])))
            for n in range(12)
        ]
        for thread in threads:
            thread.start()
        while sum(sizes) + len(log._file._waiting) < 12:
            time.sleep(0.01)
    for thread in threads:
        thread.join()
    assert sorted(place.offset for place in places) == list(range(12))
    assert sum(sizes) == 12
    assert len(sizes) <= 2, "the first alone, all others together"


def test_one_that_fails_fails_all_that_shared_its_commit_and_nothing_is_there(log):
    with log._file.connection() as connection:
        connection.execute("PRAGMA max_page_count = 20")  # a disk of 80 KiB
    with pytest.raises(LogUnavailable, match=r"log.db cannot be used: .*full.* Nothing was acknowledged. .*make room"):
        log.append(Topic.CHANGES, [Message(b"a", b"x"), Message(b"a", os.urandom(200_000))])
    assert log.high_watermark(Topic.CHANGES, partition_of(b"a", 2)) == 0
    assert log.append(Topic.CHANGES, [Message(b"a", os.urandom(200_000))])[0].offset == 0, "it works again"


CHILD = """
import resource, signal, sys
from pathlib import Path
from lookalike.contracts.change import Topic
from lookalike.storage.log.port import LogUnavailable, Message
from lookalike.storage.log.sqlite import SqliteLog
log = SqliteLog(Path(sys.argv[1]), 2, 1)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
try:
    for number in range(10_000):
        log.append(Topic.CHANGES, [Message(b"a", b"%d" % number + b"x" * 5000)])
        print(number, flush=True)
except LogUnavailable as error:
    print(error)
"""


def test_a_disk_that_takes_no_more_is_named_and_what_was_acknowledged_is_there(log, path):
    run = subprocess.run([sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, timeout=120)
    *numbers, error = run.stdout.splitlines()
    assert str(path) in error, run.stderr
    assert "Nothing was acknowledged" in error
    found = contents(log, Topic.CHANGES, partition_of(b"a", 2))
    assert [int(value.rstrip(b"x")) for _, _, value in found] == list(range(len(numbers)))
    assert len(numbers) > 10


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (sqlite3.SQLITE_READONLY, LogUnavailable, "may not be written"),
        (sqlite3.SQLITE_IOERR_WRITE, LogUnavailable, "Check the disk"),
        (sqlite3.SQLITE_BUSY, LogUnavailable, "Another process"),
        (sqlite3.SQLITE_CORRUPT, LogDamaged, "is damaged"),
        (sqlite3.SQLITE_NOTADB, LogDamaged, "is no log"),
    ],
)
def test_errors_say_what_to_do(path, code, kind, words):
    error = sqlite3.OperationalError("as SQLite says")
    error.sqlite_errorcode = code
    explained = explain(error, path)
    assert type(explained) is kind
    assert str(path) in str(explained)
    assert "as SQLite says" in str(explained)
    assert words in str(explained)


def test_a_file_that_may_only_be_read_is_refused_in_words(path):
    SqliteLog(path, 2, 1).close()
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    with pytest.raises(sqlite3.OperationalError) as error:
        connection.execute("DELETE FROM records")
    connection.close()
    assert "may not be written" in str(explain(error.value, path))


def test_a_file_of_another_kind_or_a_broken_one_is_refused(path, tmp_path):
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(os.urandom(20_000))
    with pytest.raises(LogDamaged, match="is no log"):
        SqliteLog(garbage, 2, 1)
    foreign = tmp_path / "foreign.db"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(LogDamaged, match="of another program"):
        SqliteLog(foreign, 2, 1)
    log = SqliteLog(path, 2, 1)
    log.append(Topic.CHANGES, [Message(b"a", os.urandom(3000)) for _ in range(200)])
    tidy_log(log)  # all in the main file
    log.close()
    data = bytearray(path.read_bytes())
    data[4096 * 3 :] = os.urandom(len(data) - 4096 * 3)
    path.write_bytes(data)
    with pytest.raises(LogDamaged, match=r"log.db is damaged .*backup"):
        contents(SqliteLog(path, 2, 1), Topic.CHANGES, partition_of(b"a", 2))


def test_a_folder_that_cannot_be_made_is_named():
    with pytest.raises(LogUnavailable, match=r"/proc/nowhere/log\.db"):
        open_log(load_settings(home="/proc/nowhere"))


def test_a_newer_format_is_refused(log, path):
    with log._file.connection() as connection:
        connection.execute("UPDATE facts SET value = 2 WHERE name = 'format'")
    with pytest.raises(SettingsError, match=r"newer version of Lookalike \(format 2"):
        SqliteLog(path, 2, 1)


@pytest.mark.parametrize("lock", ["ours", "of SQLite"])
def test_a_lock_that_another_holds_is_waited_for_and_then_named(log, path, monkeypatch, lock):
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.05)
    if lock == "ours":
        held = (path.parent / "log.db-writer").open("r+")
        fcntl.flock(held, fcntl.LOCK_EX)
    else:
        held = sqlite3.connect(path, isolation_level=None)
        held.execute("BEGIN IMMEDIATE")
    with pytest.raises(LogUnavailable, match=r"nother process|locked"):
        log.append(Topic.CHANGES, [Message(b"a", b"1")])
    assert log.read(Topic.CHANGES, 0, 0, 5) == [], "readers are not held up"
    held.close()
    assert log.append(Topic.CHANGES, [Message(b"a", b"1")])[0].offset == 0


def test_a_file_that_was_removed_under_us_is_an_error_and_not_a_loss(log, path):
    log.append(Topic.CHANGES, [Message(b"a", b"1")])
    path.unlink()
    for call in (
        lambda: log.append(Topic.CHANGES, [Message(b"a", b"2")]),
        lambda: log.high_watermark(Topic.CHANGES, 0),
    ):
        with pytest.raises(LogUnavailable, match="removed or replaced"):
            call()


def test_a_fork_has_to_open_the_log_again(log):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            log.append(Topic.CHANGES, [Message(b"a", b"1")])
        except LogUnavailable as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    assert b"open it again" in os.read(reading, 4096)
    os.close(reading)
    assert log.high_watermark(Topic.CHANGES, partition_of(b"a", 2)) == 0


@pytest.mark.parametrize("fault", ["no inotify", "signal lost"])
def test_a_waiting_read_wakes_without_a_signal_too(log, path, monkeypatch, fault):
    if fault == "no inotify":
        monkeypatch.setattr(wakeup, "_watch", lambda path: None)
    else:
        monkeypatch.setattr(sqlite_file, "ring", lambda descriptor: None)
    partition, got = partition_of(b"a", 2), []
    waiting = threading.Thread(target=lambda: got.extend(log.read(Topic.CHANGES, partition, 0, 5, 600.0)), daemon=True)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    other = SqliteLog(path, 2, 1)
    other.append(Topic.CHANGES, [Message(b"a", b"1")])
    other.close()
    waiting.join(60)
    assert [record.value for record in got] == [b"1"]


def test_closing_ends_the_watching_thread(path):
    for _ in range(3):
        log = SqliteLog(path, 2, 1)
        log.read(Topic.CHANGES, 0, 0, 5, wait_seconds=0.01)
        log.close()
    for thread in threading.enumerate():
        if thread.name == "log-wakeup":
            thread.join(30)
            assert not thread.is_alive()
