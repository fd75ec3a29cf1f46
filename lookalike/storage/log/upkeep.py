"""Expiry and compaction of the embedded log, in transactions so small that writers hardly wait, with rests between.

Killed half-way, either leaves a log that is right: expiry has deleted a prefix and says so, compaction has deleted
some records that a later one replaces.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from lookalike.storage.log.sqlite_file import LogFile

CHUNK_RECORDS = 500
REST = 4.0
"""Times as long as a chunk took: upkeep has no hurry, and what runs at a lower priority must not starve beside it."""


@contextmanager
def _followed_by_a_rest() -> Iterator[None]:
    began = time.monotonic()
    yield
    time.sleep(REST * (time.monotonic() - began))


def expire(file: LogFile, lane: int, base: int, before_ms: int) -> int:
    """Delete the lane's records up to the first that is not older than `before_ms`; returns how many."""
    deleted = 0
    while True:
        with _followed_by_a_rest():
            chunk = file.write(partial(_expire_chunk, lane=lane, base=base, before_ms=before_ms))
        if not chunk:
            return deleted
        deleted += chunk


def _expire_chunk(connection: sqlite3.Connection, lane: int, base: int, before_ms: int) -> int:
    sql = "SELECT place, appended_ms FROM records WHERE place >= ? AND place < ? ORDER BY place LIMIT ?"
    low, following = connection.execute("SELECT low, next FROM lanes WHERE lane = ?", (lane,)).fetchone()
    old = []
    for place, appended_ms in connection.execute(sql, (base + low, base + following, CHUNK_RECORDS)):
        if appended_ms >= before_ms:
            break
        old.append(place)
    if old:
        connection.execute("DELETE FROM records WHERE place >= ? AND place <= ?", (old[0], old[-1]))
        connection.execute("UPDATE lanes SET low = ? WHERE lane = ?", (old[-1] - base + 1, lane))
    return len(old)


def compact(file: LogFile, lane: int, base: int) -> int:
    """Delete every record of the lane whose key has a later one; returns how many.

    The latest place of each key is kept in a scratch file of SQLite's own, so that memory stays small.
    """
    sql = "SELECT next, compacted FROM lanes WHERE lane = ?"
    end, compacted = file.read(lambda connection: connection.execute(sql, (lane,)).fetchone())
    if compacted == end:
        return 0
    scratch = sqlite3.connect("", isolation_level=None)
    try:
        scratch.execute("CREATE TABLE latest (key BLOB PRIMARY KEY, place INTEGER NOT NULL) WITHOUT ROWID")
        deleted, start = 0, base
        while chunk := _keys(file, start, base + end):
            with _followed_by_a_rest():
                replaced = _replaced(scratch, chunk)
                if replaced:
                    file.write(partial(_delete, places=replaced))
            deleted += len(replaced)
            start = chunk[-1][0] + 1
    finally:
        scratch.close()
    sql = "UPDATE lanes SET compacted = ? WHERE lane = ?"
    file.write(lambda connection: connection.execute(sql, (end, lane)).rowcount)
    return deleted


def _keys(file: LogFile, start: int, end: int) -> list[tuple[int, bytes]]:
    sql = "SELECT place, key FROM records WHERE place >= ? AND place < ? ORDER BY place LIMIT ?"
    return file.read(lambda connection: connection.execute(sql, (start, end, CHUNK_RECORDS)).fetchall())


def _replaced(scratch: sqlite3.Connection, chunk: list[tuple[int, bytes]]) -> list[tuple[int]]:
    """Places of earlier records of the keys in `chunk`, which becomes the latest of them."""
    replaced = []
    scratch.execute("BEGIN")
    for place, key in chunk:
        earlier = scratch.execute("SELECT place FROM latest WHERE key = ?", (key,)).fetchone()
        if earlier is not None:
            replaced.append(earlier)
        scratch.execute("INSERT OR REPLACE INTO latest VALUES (?, ?)", (key, place))
    scratch.execute("COMMIT")
    return replaced


def _delete(connection: sqlite3.Connection, places: list[tuple[int]]) -> int:
    return connection.executemany("DELETE FROM records WHERE place = ?", places).rowcount
