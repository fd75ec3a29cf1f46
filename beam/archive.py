"""The archive: what the stream published and refused, as the Delta tables CHANGES and REFUSED.

Each batch of one partition is one commit that carries the partition's last offset as its transaction version. So the
table itself says where to go on, and a batch that is written twice, by a retry or by a second writer, is in it once.
"""

import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from beam.read import FIRST, LogRecord, ReadBatches
from lookalike.catalogue.refused_rows import RefusedChange, refused_table
from lookalike.contracts.change import Topic
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.settings import Settings
from lookalike.contracts.tables import CHANGES, REFUSED, TableContract
from lookalike.contracts.vector_update import VectorUpdate
from lookalike.storage.delta import AppTransaction, DeltaTables
from lookalike.storage.log.opening import open_log

LOG = logging.getLogger("lookalike.stream")

GROUP = "archive"
TABLES: dict[Topic, TableContract] = {Topic.UPDATES: CHANGES, Topic.REFUSED: REFUSED}
"""Topics that are archived, and where."""


class ArchiveGap(LookalikeError):
    """Records between what the table has and what was read are missing; nothing was written."""


def archive(pipeline: beam.Pipeline, settings: Settings) -> None:
    """Build the pipeline: `vector-updates` → CHANGES, `refused` → REFUSED."""
    stream = settings.stream
    batches = ReadBatches(
        settings, tuple(TABLES), GROUP, stream.archive_seconds, stream.archive_records, archived_offset
    )
    _ = pipeline | "Read" >> batches | "Write" >> beam.ParDo(WriteBatchFn(settings))


def application(topic: Topic, partition: int) -> str:
    """Name under which the table's log keeps how far a partition is archived."""
    return f"archive:{topic}:{partition}"


def archived_offset(settings: Settings, topic: Topic, partition: int) -> int | None:
    """Offset after the last archived one, as the table says; None when nothing was archived yet."""
    tables = DeltaTables(settings.tables_root)
    last = tables.transaction_version(TABLES[topic], application(topic, partition))
    return None if last is None else last + 1


class WriteBatchFn(beam.DoFn):  # type: ignore[misc]
    """One batch of one partition → one commit; then the log's offset, which only says how far the archive is."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def setup(self) -> None:
        self._tables = DeltaTables(self._settings.tables_root)
        self._log = open_log(self._settings)

    def teardown(self) -> None:
        self._log.close()

    def process(self, element: tuple[LogRecord, ...]) -> Iterator[Any]:
        topic, partition, last = element[0].topic, element[0].partition, element[-1].offset
        write_batch(self._tables, element)
        self._log.commit(GROUP, topic, {partition: last + 1})
        yield from ()


def write_batch(tables: DeltaTables, batch: Sequence[LogRecord]) -> bool:
    """Append what the table lacks of a batch of one partition; whether there was anything. Raises ArchiveGap."""
    topic, partition = batch[0].topic, batch[0].partition
    contract, app = TABLES[topic], application(topic, partition)
    archived = tables.transaction_version(contract, app)
    previous = batch[0].previous
    if previous != FIRST and (archived is None or archived < previous):
        raise ArchiveGap(
            f"the table {contract.name} has {topic}, partition {partition} up to offset {archived}, but the next batch "
            f"follows offset {previous}: was the table replaced while the stream ran? Start the stream again"
        )
    new = [record for record in batch if archived is None or record.offset > archived]
    if not new:
        return False
    rows = change_rows(new) if topic == Topic.UPDATES else _not_there_yet(tables, refused_rows(new))
    return tables.append(contract, rows, AppTransaction(app, new[-1].offset))


def change_rows(records: Sequence[LogRecord]) -> pa.Table:
    """Messages of `vector-updates` as rows of CHANGES; progress marks say nothing about an item and are left out."""
    rows: list[dict[str, Any]] = []
    vectors: list[dict[str, np.ndarray[Any, Any]]] = []
    for record in records:
        update = VectorUpdate.decode(record.value)
        if update.state is None:
            continue
        vectors.append(dict(update.vectors))
        rows.append(
            {
                "partition": record.partition,
                "offset": record.offset,
                "origin_offset": update.origin.offset,
                "item_id": update.state.item_id,
                "version": update.state.version,
                "kind": update.kind,
                "event_time": update.event_time,
                "published_at": datetime.fromtimestamp(record.appended_ms / 1000, UTC),
                "state": update.state.to_json(),
            }
        )
    plain = pa.schema([field for field in CHANGES.schema if field.name != "vectors"])
    return pa.Table.from_pylist(rows, schema=plain).append_column("vectors", _vector_column(vectors))


def refused_rows(records: Sequence[LogRecord]) -> pa.Table:
    """Messages of `refused` as rows of REFUSED, each key once: a worker that was killed may have sent it twice."""
    changes = [RefusedChange.decode(record.value) for record in records]
    return refused_table(list({(change.partition, change.offset): change for change in reversed(changes)}.values()))


def _not_there_yet(tables: DeltaTables, rows: pa.Table) -> pa.Table:
    """The rows whose key REFUSED does not have."""
    if not tables.exists(REFUSED.name):
        return rows
    there: set[tuple[str, int]] = set()
    for snapshot in sorted(set(rows["snapshot_id"].to_pylist())):
        numbers = rows.filter(pa.compute.equal(rows["snapshot_id"], snapshot))["row_number"].to_pylist()
        where = f"snapshot_id = '{snapshot}' AND row_number BETWEEN {min(numbers)} AND {max(numbers)}"
        found = tables.read(REFUSED, ("row_number",), where)["row_number"].to_pylist()
        there |= {(snapshot, number) for number in found}
    keys = zip(rows["snapshot_id"].to_pylist(), rows["row_number"].to_pylist(), strict=True)
    return rows.filter(pa.array([key not in there for key in keys], pa.bool_()))


def _vector_column(vectors: Sequence[dict[str, np.ndarray[Any, Any]]]) -> pa.Array:
    """Vectors of each row as a list of (space, vector), built flat: a Python number per dimension would be slow."""
    kind = CHANGES.schema.field("vectors").type
    flat = [(space, vector) for row in vectors for space, vector in row.items()]
    numbers = np.concatenate([np.zeros(0, np.float32), *(vector for _, vector in flat)])
    ends = np.cumsum([0, *(len(vector) for _, vector in flat)], dtype=np.int32)
    structs = pa.StructArray.from_arrays(
        [pa.array([space for space, _ in flat], pa.string()), pa.ListArray.from_arrays(ends, numbers)],
        fields=list(kind.value_type),
    )
    rows = np.cumsum([0, *(len(row) for row in vectors)], dtype=np.int32)
    return pa.ListArray.from_arrays(rows, structs).cast(kind)
