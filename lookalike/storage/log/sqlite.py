"""The embedded log: all topics in one SQLite file, for one machine. Nothing to install, nothing to run.

A lane is one partition of one topic. A record's row id is its lane's number above its offset, so that the table lies
sorted by lane and offset, a read is one range scan, and no second index has to be written.
"""

import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lookalike.contracts.change import COMPACTED, Position, Topic, partition_of
from lookalike.contracts.errors import SettingsError
from lookalike.storage.log.limits import check_place, check_sizes
from lookalike.storage.log.port import Message, OffsetExpired, Record
from lookalike.storage.log.sqlite_file import LogDamaged, LogFile
from lookalike.storage.log.upkeep import compact, expire

FORMAT = 1
APPLICATION_ID = 0x4C4B4C47  # "LKLG", in the file's header
OFFSET_BITS = 40

_TABLES = (
    "CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    # next: offset of the next append, kept apart from the records so that no offset is ever given twice.
    # low: lowest offset from which nothing expired. compacted: below it, only the latest of each key is there.
    """CREATE TABLE IF NOT EXISTS lanes (lane INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL,
       next INTEGER NOT NULL DEFAULT 0, low INTEGER NOT NULL DEFAULT 0, compacted INTEGER NOT NULL DEFAULT 0,
       UNIQUE (topic, partition))""",
    # Small columns first: a scan over times or keys then need not follow the pages of long values.
    """CREATE TABLE IF NOT EXISTS records (place INTEGER PRIMARY KEY, appended_ms INTEGER NOT NULL,
       key BLOB NOT NULL, value BLOB NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS commits (consumer TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL,
       next INTEGER NOT NULL, PRIMARY KEY (consumer, topic, partition)) WITHOUT ROWID""",
)


class SqliteLog:
    """The port `Log` over one file. Raises SettingsError when the file has another number of partitions."""

    def __init__(self, path: Path, partitions: int, retention_hours: float) -> None:
        self._partitions = partitions
        self._retention_ms = int(retention_hours * 3_600_000)
        self._file = LogFile(path)
        try:
            self._lanes = self._file.exclusively(self._open)
            self._file.remember_identity()
        except BaseException:
            self._file.close()
            raise

    @property
    def partitions(self) -> int:
        return self._partitions

    def append(self, topic: Topic, messages: Sequence[Message]) -> list[Position]:
        check_sizes(messages)
        if not messages:
            return []
        placed = [(partition_of(message.key, self._partitions), message) for message in messages]
        return self._file.write(lambda connection: self._append(connection, topic, placed))

    def read(self, topic: Topic, partition: int, offset: int, limit: int, wait_seconds: float = 0.0) -> list[Record]:
        check_place(partition, self._partitions, offset)
        deadline = time.monotonic() + wait_seconds
        with self._file.connection() as connection:
            while True:
                seen = self._file.data_version(connection)
                records = self._file.snapshot(
                    connection, lambda open_: self._records(open_, topic, partition, offset, limit)
                )
                if records or wait_seconds <= 0 or not self._file.wait_for_change(connection, seen, deadline):
                    return records

    def high_watermark(self, topic: Topic, partition: int) -> int:
        return self._watermark("next", topic, partition)

    def low_watermark(self, topic: Topic, partition: int) -> int:
        return self._watermark("low", topic, partition)

    def commit(self, group: str, topic: Topic, offsets: Mapping[int, int]) -> None:
        for partition, offset in offsets.items():
            check_place(partition, self._partitions, offset)
        rows = [(group, str(topic), partition, offset) for partition, offset in offsets.items()]
        self._file.write(
            lambda connection: connection.executemany("INSERT OR REPLACE INTO commits VALUES (?, ?, ?, ?)", rows)
        )

    def committed(self, group: str, topic: Topic) -> dict[int, int]:
        sql = "SELECT partition, next FROM commits WHERE consumer = ? AND topic = ?"
        return dict(self._file.read(lambda connection: connection.execute(sql, (group, str(topic))).fetchall()))

    def close(self) -> None:
        self._file.close()

    def expire(self, now_ms: int) -> int:
        """Delete what is older than the retention at `now_ms` (ms since 1970); returns how many records that were."""
        return sum(expire(self._file, lane, lane << OFFSET_BITS, now_ms - self._retention_ms) for lane in self._all())

    def compact(self, topic: Topic) -> int:
        """Keep only the latest record of each key; returns how many were deleted. Raises ValueError for other topics.

        A reader below sees a gap where a record was, and every key's latest record.
        """
        if topic not in COMPACTED:
            raise ValueError(f"topic {topic} is not compacted: each of its messages matters")
        lanes = [self._lanes[topic, partition] for partition in range(self._partitions)]
        return sum(compact(self._file, lane, lane << OFFSET_BITS) for lane in lanes)

    def tidy(self) -> int:
        """All upkeep, as of now: to be called now and then by one process. Writers wait for milliseconds at most."""
        deleted = self.expire(time.time_ns() // 1_000_000) + sum(self.compact(topic) for topic in COMPACTED)
        self._file.exclusively(lambda connection: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        return deleted

    def _open(self, connection: sqlite3.Connection) -> dict[tuple[str, int], int]:
        """Make the file where it is new, check it where it is not; the number of each lane."""
        fresh = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if not fresh and connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise LogDamaged(f"{self._file.path} is an SQLite file of another program. Move it, or set another home.")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for table in _TABLES:
            connection.execute(table)
        facts = {"format": FORMAT, "partitions": self._partitions}
        connection.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?)", facts.items())
        self._check(dict(connection.execute("SELECT name, value FROM facts").fetchall()))
        places = [(str(topic), partition) for topic in Topic for partition in range(self._partitions)]
        connection.executemany("INSERT OR IGNORE INTO lanes (topic, partition) VALUES (?, ?)", places)
        rows = connection.execute("SELECT topic, partition, lane FROM lanes").fetchall()
        connection.execute("COMMIT")
        return {(topic, partition): lane for topic, partition, lane in rows}

    def _check(self, found: dict[str, int]) -> None:
        if found["format"] > FORMAT:
            raise SettingsError(
                f"{self._file.path} was written by a newer version of Lookalike (format {found['format']}; this one "
                f"knows {FORMAT}). Use that version."
            )
        if found["partitions"] != self._partitions:
            raise SettingsError(
                f"{self._file.path} has {found['partitions']} partitions per topic and log.partitions = "
                f"{self._partitions}. Their number is fixed for the life of a log: set log.partitions = "
                f"{found['partitions']}, or begin a new log (stop all processes, run the nightly merge, move the file)."
            )

    def _append(
        self, connection: sqlite3.Connection, topic: Topic, placed: Iterable[tuple[int, Message]]
    ) -> list[Position]:
        now = time.time_ns() // 1_000_000
        following: dict[int, int] = {}
        positions, rows = [], []
        for partition, message in placed:
            lane = self._lanes[topic, partition]
            if partition not in following:
                sql = "SELECT next FROM lanes WHERE lane = ?"
                following[partition] = connection.execute(sql, (lane,)).fetchone()[0]
            offset = following[partition]
            following[partition] = offset + 1
            positions.append(Position(partition, offset))
            rows.append(((lane << OFFSET_BITS) + offset, now, message.key, message.value))
        connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?)", rows)
        ends = [(offset, self._lanes[topic, partition]) for partition, offset in following.items()]
        connection.executemany("UPDATE lanes SET next = ? WHERE lane = ?", ends)
        return positions

    def _records(
        self, connection: sqlite3.Connection, topic: Topic, partition: int, offset: int, limit: int
    ) -> list[Record]:
        lane = self._lanes[topic, partition]
        low = connection.execute("SELECT low FROM lanes WHERE lane = ?", (lane,)).fetchone()[0]
        if offset < low:
            raise OffsetExpired(
                f"{topic}, partition {partition}: offset {offset} was asked for and everything below {low} has "
                f"expired (log.retention_hours = {self._retention_ms / 3_600_000:g})"
            )
        sql = "SELECT place, key, value, appended_ms FROM records WHERE place >= ? AND place < ? ORDER BY place LIMIT ?"
        base = lane << OFFSET_BITS
        rows = connection.execute(sql, (base + offset, (lane + 1) << OFFSET_BITS, limit))
        return [Record(partition, place - base, key, value, at) for place, key, value, at in rows]

    def _watermark(self, column: str, topic: Topic, partition: int) -> int:
        check_place(partition, self._partitions)
        sql = f"SELECT {column} FROM lanes WHERE lane = ?"
        lane = self._lanes[topic, partition]
        return int(self._file.read(lambda connection: connection.execute(sql, (lane,)).fetchone())[0])

    def _all(self) -> list[int]:
        return sorted(self._lanes.values())
