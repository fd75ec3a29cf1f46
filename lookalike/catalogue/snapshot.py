"""Snapshots: what a catalogue source said at one time, as Parquet parts and one `snapshot.json`; rows are as received.

A snapshot's name follows from its content (and the night that it was imported for), so the same content again is the
same snapshot and nothing is written. Parts are written one by one in a working folder that a later run of the same job
continues.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lookalike.catalogue.pictures import write_atomically
from lookalike.contracts.errors import CorruptArtifact, NotFound

SNAPSHOT_NAME = "snapshot.json"
_STARTED = "started"
_STRINGS = pa.list_(pa.string())

SNAPSHOT_SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.string()),
        pa.field("version", pa.int64()),
        pa.field("title", pa.string()),
        pa.field("image_path", pa.string()),
        pa.field("brand", pa.string()),
        pa.field("category_path", _STRINGS),
        pa.field("tags", _STRINGS),
        pa.field("group_id", pa.string()),
        pa.field("price", pa.float64()),
        pa.field("currency", pa.string()),
        pa.field("stock", pa.int64()),
        pa.field("licence", pa.string()),
        pa.field("licence_url", pa.string()),
        pa.field("author", pa.string()),
        pa.field("author_url", pa.string()),
        pa.field("attributes", pa.map_(pa.string(), pa.string())),
        pa.field("keywords", pa.map_(pa.string(), _STRINGS)),
        pa.field("synthetic", _STRINGS),
    ]
)
_WIDER = {"version", "price", "stock"}
RECEIVED_SCHEMA = pa.schema(
    [pa.field(column.name, pa.string()) if column.name in _WIDER else column for column in SNAPSHOT_SCHEMA]
)
"""The same columns where numbers are kept as text: a bad value stays as it came, so ingest refuses and shows it."""


@dataclass(frozen=True)
class Night:
    """The UTC day that an import is for. `at`: the moment of it at which the snapshot counts as made, in ms; `last`:
    id of the last snapshot that the source has of that night, None without one."""

    day: date
    at: datetime
    last: str | None = None


@dataclass(frozen=True)
class Snapshot:
    """A finished snapshot. `complete`: items of `source` that are absent were withdrawn."""

    snapshot_id: str
    source: str
    complete: bool
    items: int
    created_at: str  # ISO 8601, UTC
    content_sha256: str
    folder: Path

    @property
    def parts(self) -> list[Path]:
        """The Parquet files, in order."""
        return sorted(self.folder.glob("part-*.parquet"))

    def rows(self, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
        """All rows in order as dictionaries; map columns as dictionaries too. Constant memory."""
        for part in self.parts:
            for batch in pq.ParquetFile(part).iter_batches(columns=columns):
                yield from batch.to_pylist(maps_as_pydicts="strict")


def read_snapshot(directory: Path) -> Snapshot:
    """Open a finished snapshot. Raises NotFound when there is none, CorruptArtifact when parts are missing."""
    described = directory / SNAPSHOT_NAME
    if not described.is_file():
        raise NotFound(f"{directory} is not a snapshot: it has no {SNAPSHOT_NAME}")
    values = json.loads(described.read_text())
    snapshot = Snapshot(**values, folder=directory)
    rows = sum(pq.read_metadata(part).num_rows for part in snapshot.parts)
    if rows != snapshot.items:
        raise CorruptArtifact(
            f"snapshot {directory} holds {rows:,} rows but says {snapshot.items:,}: remove it, import again"
        )
    return snapshot


def unfinished_jobs(root: Path) -> list[datetime]:
    """The times that jobs which were killed, or still run, have for their snapshots."""
    found = []
    for mark in root.glob(f".*.partial/{_STARTED}"):
        with suppress(FileNotFoundError):  # that job has just finished
            found.append(_time(int(mark.read_text())))
    return found


class SnapshotWriter:
    """Writes parts in a working folder named by `job`; a part that is there already is not written again.

    With `night` the snapshot counts as made then, whatever day it is.
    """

    def __init__(self, root: Path, job: str, schema: pa.Schema = SNAPSHOT_SCHEMA, night: Night | None = None) -> None:
        self._root, self._night = root, night
        self._work = self._root / f".{re.sub(r'[^A-Za-z0-9._-]+', '-', job)}.partial"
        self._schema = schema
        self._work.mkdir(parents=True, exist_ok=True)

    def has(self, part: int) -> bool:
        """True when an earlier run finished this part."""
        return self._path(part).is_file()

    def rows_in(self, part: int) -> int:
        """Rows of a finished part."""
        return int(pq.read_metadata(self._path(part)).num_rows)

    def started_ms(self) -> int:
        """When this job began (or its moment of the night), ms since 1970: a continued run has that of the first."""
        mark = self._work / _STARTED
        if not mark.is_file():
            at = self._night.at if self._night is not None else datetime.now(UTC)
            write_atomically(mark, str(round(at.timestamp() * 1_000)).encode())
        return int(mark.read_text())

    def write(self, part: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write one part; columns that a row lacks are null."""
        table = pa.Table.from_pylist([dict(row) for row in rows], schema=self._schema)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        write_atomically(self._path(part), sink.getvalue().to_pybytes())

    def finish(self, source: str, complete: bool, name: str | None = None) -> Snapshot:
        """Name the snapshot `NAME-` (and `NIGHT-`) and 12 hex digits of its content; move it there in one rename."""
        parts = sorted(self._work.glob("part-*.parquet"))
        content = _content(parts, source, complete)
        target = self._target(name or source, content)
        if (target / SNAPSHOT_NAME).is_file():
            shutil.rmtree(self._work)
            return read_snapshot(target)
        snapshot = Snapshot(
            snapshot_id=target.name,
            source=source,
            complete=complete,
            items=sum(pq.read_metadata(part).num_rows for part in parts),
            created_at=self._created_at(),
            content_sha256=content,
            folder=target,
        )
        described = {key: value for key, value in asdict(snapshot).items() if key != "folder"}
        write_atomically(self._work / SNAPSHOT_NAME, json.dumps(described, indent=1).encode())
        (self._work / _STARTED).unlink(missing_ok=True)
        self._work.rename(target)
        return snapshot

    def discard(self) -> None:
        """Remove the parts of an earlier run: used where they cannot be continued."""
        shutil.rmtree(self._work)
        self._work.mkdir(parents=True)

    def _target(self, name: str, content: str) -> Path:
        readable = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:60]
        if self._night is None:
            return self._root / f"{readable}-{content[:12]}"
        last = self._root / self._night.last if self._night.last is not None else None
        if last is not None and read_snapshot(last).content_sha256 == content:
            return last
        same = self._root / f"{readable}-{self._night.day}-{content[:12]}"
        if not same.exists():
            return same
        # Another import of this night came after that one; going back to the same rows is a later import still.
        again = hashlib.sha256(f"{content}\n{self._created_at()}".encode()).hexdigest()
        return self._root / f"{readable}-{self._night.day}-{again[:12]}"

    def _created_at(self) -> str:
        if self._night is None:
            return datetime.now(UTC).isoformat(timespec="seconds")
        return _time(self.started_ms()).isoformat(timespec="milliseconds")

    def _path(self, part: int) -> Path:
        return self._work / f"part-{part:05d}.parquet"


def _content(parts: Iterable[Path], source: str, complete: bool) -> str:
    digest = hashlib.sha256(f"{source}\n{complete}\n".encode())
    for part in parts:
        with part.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1_000, UTC)
