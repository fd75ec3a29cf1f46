"""Feedback of a day: the log's messages into IMPRESSIONS and CLICKS, then the day's rows of ONLINE_REPORT.

Each commit carries the last offset that it has of a partition, so the tables themselves say where to go on: killed
anywhere and run again, every message is in them once. A report is only written where it says something new.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa

from lookalike.contracts.change import Topic
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.feedback import Click, Impression, decode_feedback, searched_at
from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings
from lookalike.contracts.tables import CLICKS, IMPRESSIONS, ONLINE_REPORT, TableContract
from lookalike.line.changes import opened_log
from lookalike.line.feedback_report import DayReport, write_report
from lookalike.storage.delta import AppTransaction, DeltaTables
from lookalike.storage.log.port import Log, OffsetExpired, Record
from lookalike.storage.table_lock import only_writer

LOG = logging.getLogger("lookalike.feedback")
READ_RECORDS = 500
COMMIT_RECORDS = 20_000
COMMIT_BYTES = 64 * 2**20
WAIT_SECONDS = 1.0


class FeedbackLogReplaced(LookalikeError):
    """The log ends before what the tables have of it."""


class DayNotBegun(LookalikeError):
    """A report was asked for a day that is still to come."""


@dataclass(frozen=True)
class Archived:
    """What was brought into the tables now. `expired`: offsets that the log had let go of before."""

    impressions: int = 0
    clicks: int = 0
    unreadable: int = 0
    expired: int = 0

    def __add__(self, other: "Archived") -> "Archived":
        return Archived(
            self.impressions + other.impressions,
            self.clicks + other.clicks,
            self.unreadable + other.unreadable,
            self.expired + other.expired,
        )


@dataclass(frozen=True)
class FeedbackReport:
    """What the verb did. `reports`: the day before, whose last clicks came on this day, and the day itself."""

    day: date
    archived: Archived
    reports: tuple[DayReport, ...]


def feedback(settings: Settings, day: date, progress: Progress, now: datetime | None = None) -> FeedbackReport:
    """Archive what the log has, then report on `day` (UTC) and on the day before. `now`: for the report's `closed`.

    Raises DayNotBegun, FeedbackLogReplaced, LogUnavailable, UnknownSchema.
    """
    now = now or datetime.now(UTC)
    if day > now.date():
        raise DayNotBegun(f"{day} has not begun (it is {now:%Y-%m-%d %H:%M} UTC); name a day up to {now.date()}")
    tables = DeltaTables(settings.tables_root)
    with ExitStack() as locks:
        for contract in (CLICKS, IMPRESSIONS, ONLINE_REPORT):
            locks.enter_context(only_writer(settings.locks_root, contract.name, f"feedback of {day}"))
        archived = archive(settings, tables, progress)
        reports = tuple(write_report(tables, each, now) for each in (day - timedelta(days=1), day))
    return FeedbackReport(day, archived, reports)


def archive(settings: Settings, tables: DeltaTables, progress: Progress) -> Archived:
    """Bring the topic `feedback`, as far as it goes now, into both tables. The caller holds their locks."""
    if settings.log.kind == "sqlite" and not settings.log_path.exists():
        return Archived()  # looking must not make one
    total = Archived()
    with opened_log(settings) as log, progress.step("archive feedback") as step:
        for partition in range(log.partitions):
            for batch, expired in _batches(log, tables, partition):
                total += _write(tables, partition, batch) + Archived(expired=expired)
                step.advance(len(batch))
    return total


def application(partition: int) -> str:
    """Name under which the tables' logs keep how far a partition is archived."""
    return f"archive:{Topic.FEEDBACK}:{partition}"


def _batches(log: Log, tables: DeltaTables, partition: int) -> Iterator[tuple[list[Record], int]]:
    """What a table lacks of a partition, in commits' worth, each with the number of offsets that expired before it."""
    reached = [_reached(tables, contract, partition) for contract in (IMPRESSIONS, CLICKS)]
    offset, end = min(reached) + 1, log.high_watermark(Topic.FEEDBACK, partition)
    if max(reached) >= end:
        raise FeedbackLogReplaced(
            f"the tables {IMPRESSIONS.name} and {CLICKS.name} have feedback of partition {partition} up to offset "
            f"{max(reached)}, but the log ends at {end}: it was replaced. Move both tables aside to begin anew with it"
        )
    batch: list[Record] = []
    while offset < end:
        expired = 0
        try:
            records = log.read(Topic.FEEDBACK, partition, offset, READ_RECORDS, WAIT_SECONDS)
        except OffsetExpired as error:
            LOG.warning("feedback was lost, run this verb more often: %s", error)
            expired = log.low_watermark(Topic.FEEDBACK, partition) - offset
            records, offset = [], offset + expired
        else:
            if not records:  # nothing is left below `end`
                offset = end
        batch += records
        offset = records[-1].offset + 1 if records else offset
        full = len(batch) >= COMMIT_RECORDS or sum(len(each.value) for each in batch) >= COMMIT_BYTES
        if full or expired or offset >= end:
            yield batch, expired
            batch = []


def _reached(tables: DeltaTables, contract: TableContract, partition: int) -> int:
    last = tables.transaction_version(contract, application(partition))
    return -1 if last is None else last


def _write(tables: DeltaTables, partition: int, batch: Sequence[Record]) -> Archived:
    """One commit to each table, each with what it lacks. A kill between the two is made up for by the next run."""
    if not batch:
        return Archived()
    decoded = [(record, decode_feedback(record.value)) for record in batch]
    rows: dict[str, list[dict[str, Any]]] = {IMPRESSIONS.name: [], CLICKS.name: []}
    for contract, kind, row_of in ((IMPRESSIONS, Impression, _impression), (CLICKS, Click, _click)):
        reached = _reached(tables, contract, partition)
        if reached >= batch[-1].offset:
            continue
        new = [(record, each) for record, each in decoded if isinstance(each, kind) and record.offset > reached]
        rows[contract.name] = [_place(record, each) | row_of(record, each) for record, each in new]
        table = pa.Table.from_pylist(rows[contract.name], schema=contract.schema)
        tables.append(contract, table, AppTransaction(application(partition), batch[-1].offset))
    unreadable = sum(each is None for _, each in decoded)
    if unreadable:
        LOG.warning("%d messages of partition %d are no feedback and were passed over", unreadable, partition)
    return Archived(len(rows[IMPRESSIONS.name]), len(rows[CLICKS.name]), unreadable)


def _place(record: Record, given: Impression | Click) -> dict[str, Any]:
    return {
        "day": searched_at(given.search_id).date(),
        "partition": record.partition,
        "offset": record.offset,
        "search_id": given.search_id,
    }


def _impression(record: Record, given: Any) -> dict[str, Any]:
    return {
        "at": searched_at(given.search_id),
        "release": given.release,
        "query_kind": given.query_kind.value,
        "start": given.start,
        "items": list(given.items),
        "filters": list(given.filters),
        "k": given.k,
    }


def _click(record: Record, given: Any) -> dict[str, Any]:
    return {
        "item_id": given.item_id,
        "event": given.event.value,
        "at": given.at,
        "received_at": datetime.fromtimestamp(record.appended_ms / 1000, UTC),
    }
