"""State store: what each item of `vector-updates` is now, in a file of this machine that can be made again from there.

The log is the truth; this file only saves reading it all at every start. Several processes may hold it open (a worker
boots before the one that it replaces has drained), so how far it has read stands in the file and moves in the same
transaction as the items.
"""

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from beam.elements import Vector
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.vector_update import VectorUpdate

LOG = logging.getLogger("lookalike.stream")
FORMAT = 2
BUSY_SECONDS = 30.0
_SCHEMA = f"""
PRAGMA user_version = {FORMAT};
CREATE TABLE IF NOT EXISTS items (
    item_id TEXT PRIMARY KEY, base_version INTEGER NOT NULL, content_hash TEXT, has_vectors INTEGER NOT NULL,
    release TEXT NOT NULL, message BLOB NOT NULL, at_offset INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS items_by_picture ON items (content_hash) WHERE has_vectors;
CREATE TABLE IF NOT EXISTS partitions (
    number INTEGER PRIMARY KEY, next_offset INTEGER NOT NULL, origin_offset INTEGER NOT NULL);
"""
_PROGRESS = "SELECT next_offset, origin_offset FROM partitions WHERE number = ?"
_UPSERT = """
INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (item_id) DO UPDATE SET base_version = excluded.base_version,
content_hash = excluded.content_hash, has_vectors = excluded.has_vectors, release = excluded.release,
message = excluded.message, at_offset = excluded.at_offset
"""


@dataclass(frozen=True)
class Progress:
    """How far a partition of `vector-updates` was read, and the highest origin offset in it (-1: none)."""

    next_offset: int = 0
    origin_offset: int = -1


@dataclass(frozen=True)
class StoredItem:
    """An item's latest message and its offset, and the release whose row its state has taken in ("": none)."""

    update: VectorUpdate
    release: str
    offset: int

    @property
    def content_hash(self) -> str | None:
        """sha256 of the picture that the message's vectors belong to."""
        return None if self.update.state is None else self.update.state.content_hash


class StateStore:
    """Safe for use by several threads and processes."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = _connect(path)
        except sqlite3.DatabaseError as error:
            LOG.warning("%s cannot be used (%s); it is made again from the log", path, error)
            _remove(path)
            self._connection = _connect(path)

    def get(self, item_id: str) -> StoredItem | None:
        """The latest message of an item."""
        row = self._one("SELECT message, release, at_offset FROM items WHERE item_id = ?", item_id)
        return None if row is None else StoredItem(VectorUpdate.decode(row[0]), *row[1:])

    def base_version(self, item_id: str) -> int | None:
        """Version of the item's last whole row, without reading the message."""
        row = self._one("SELECT base_version FROM items WHERE item_id = ?", item_id)
        return None if row is None else int(row[0])

    def vectors_of(self, content_hash: str) -> dict[str, Vector]:
        """Vectors by space of a picture, from any item that shows it now and was published with vectors."""
        sql = "SELECT message FROM items WHERE content_hash = ? AND has_vectors LIMIT 1"
        row = self._one(sql, content_hash)
        return {} if row is None else dict(VectorUpdate.decode(row[0]).vectors)

    def progress(self, partition: int) -> Progress:
        """How far the partition has been taken in."""
        row = self._one(_PROGRESS, partition)
        return Progress() if row is None else Progress(*row)

    def absorb(
        self, partition: int, updates: Sequence[tuple[int, VectorUpdate]], next_offset: int, release: str = ""
    ) -> None:
        """Take in messages of one partition with their offsets, in order; `next_offset` is what to read next.

        Those already taken in are passed over. `release` is what the states have taken in, where the caller made them.
        """
        with self._transaction() as cursor:
            row = cursor.execute(_PROGRESS, (partition,)).fetchone()
            before = Progress() if row is None else Progress(*row)
            fresh = [(offset, update) for offset, update in updates if offset >= before.next_offset]
            rows = [_row(update, release, offset) for offset, update in fresh if update.state is not None]
            cursor.executemany(_UPSERT, rows)
            origin = max([before.origin_offset, *(update.origin.offset for _, update in fresh)])
            cursor.execute(
                "INSERT OR REPLACE INTO partitions VALUES (?, ?, ?)",
                (partition, max(next_offset, before.next_offset), origin),
            )

    def lost(self, partition: int, updates: Sequence[tuple[int, VectorUpdate]]) -> list[VectorUpdate]:
        """What messages about to be taken in would lose: items whose last one of them lacks something that an earlier
        one, or the stored one, had. Two writers that did not see each other do that; each comes with both joined.
        """
        first = self.progress(partition).next_offset
        joined: dict[str, VectorUpdate] = {}
        last: dict[str, VectorUpdate] = {}
        for offset, update in updates:
            if update.state is None or offset < first:
                continue
            item_id = update.state.item_id
            if item_id not in joined and (stored := self.get(item_id)) is not None:
                joined[item_id] = stored.update
            joined[item_id] = _join(update, joined.get(item_id))
            last[item_id] = update
        return [joined[item_id] for item_id, update in last.items() if not _same(joined[item_id], update)]

    def forget(self) -> None:
        """Empty the store: it belonged to another log."""
        with self._transaction() as cursor:
            cursor.execute("DELETE FROM items")
            cursor.execute("DELETE FROM partitions")

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()

    def _one(self, sql: str, *values: object) -> tuple | None:  # type: ignore[type-arg]
        with self._lock:
            return self._connection.execute(sql, values).fetchone()  # type: ignore[no-any-return]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        with self._lock:
            cursor = self._connection.cursor()
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
            except BaseException:
                cursor.execute("ROLLBACK")
                raise
            cursor.execute("COMMIT")


def _join(update: VectorUpdate, before: VectorUpdate | None) -> VectorUpdate:
    if update.state is None or before is None or before.state is None:
        return update
    state = update.state.merge(before.state)
    vectors: dict[str, Vector] = {}
    for each in (before, update):
        if each.state is not None and each.state.content_hash == state.content_hash:
            vectors |= each.vectors
    return replace(update, state=state, vectors=vectors)


def _same(one: VectorUpdate, other: VectorUpdate) -> bool:
    return one is other or (one.state == other.state and one.vectors.keys() == other.vectors.keys())


def _row(update: VectorUpdate, release: str, offset: int) -> tuple[str, int, str | None, bool, str, bytes, int]:
    if update.state is None:
        raise ValueError("a progress mark is no item")
    state = update.state
    return (
        state.item_id, state.base_version, state.content_hash, bool(update.vectors), release, update.encode(), offset,
    )  # fmt: skip


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last commits, never the file
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, FORMAT):
            raise sqlite3.DatabaseError(f"it has format {found}, this process writes {FORMAT}")
        connection.executescript(_SCHEMA)
        connection.execute("SELECT count(*) FROM partitions").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        raise LookalikeError(f"the state store {path} cannot be opened: {error}") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _remove(path: Path) -> None:
    for name in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        with contextlib.suppress(FileNotFoundError):
            name.unlink()
