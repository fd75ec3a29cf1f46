"""A user's own catalogue → snapshot: opens Delta where PATH is a Delta table, hands everything else to the importer.

An export of the past is imported for its night, and what it then counts as made at lies in that night: nights that are
taken in later, in whatever order, stand in the order of their days.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pyarrow as pa

from lookalike.catalogue.importer import import_catalogue
from lookalike.catalogue.snapshot import Night, Snapshot, unfinished_jobs
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings
from lookalike.contracts.tables import BRONZE
from lookalike.line.snapshots import found_snapshots
from lookalike.storage.delta import DeltaTables

FIRST_LATE_IMPORT = timedelta(hours=23)
"""Moment of the first import for a night that is over: after what that day itself brought, with room for more."""
STEP = timedelta(milliseconds=1)
"""Versions count milliseconds: rows without one are newer in the later import of a night."""


class NightNotBegun(LookalikeError):
    """An import was meant for a night that is still to come."""


class NightFull(LookalikeError):
    """A night has a snapshot of its very last moment, so that none can come after it."""


def import_path(
    settings: Settings,
    path: str,
    mapping: Path | None,
    source: str,
    complete: bool,
    progress: Progress,
    day: date | None = None,
) -> Snapshot:
    """Write a snapshot from Parquet, CSV, JSON Lines or Delta; see `lookalike.catalogue.importer`.

    With `day` it is one of that night, the last of `source` so far. Raises NightNotBegun and NightFull too.
    """
    night = night_of(settings, day, source, datetime.now(UTC)) if day is not None else None
    folder, _, name = path.rstrip("/").rpartition("/")
    tables = DeltaTables(folder or ".")
    batches: Iterator[pa.RecordBatch] | None = tables.raw_batches(name) if tables.exists(name) else None
    return import_catalogue(
        settings, path, mapping, progress, source=source, complete=complete, batches=batches, night=night
    )


def night_of(settings: Settings, day: date, source: str, now: datetime) -> Night:
    """The night `day` (UTC) as an import of `source` that begins at `now` finds it.

    Its moment is now when the day is not over, else 23:00, and in any case 1 ms after every snapshot that the night
    has, also those of which only the tables know any more. Raises NightNotBegun, NightFull.
    """
    if day > now.date():
        raise NightNotBegun(
            f"the night {day} has not begun (it is {now:%Y-%m-%d %H:%M} UTC); name one up to {now.date()}"
        )
    begin = datetime.combine(day, time(), UTC)
    end = begin + timedelta(days=1)
    there = [found for found in found_snapshots(settings) if found.night == day]
    taken = [*(found.made for found in there), *unfinished_jobs(settings.snapshots_root), *_ingested(settings)]
    after = [moment + STEP for moment in taken if begin <= moment < end]
    at = max([now if now < end else begin + FIRST_LATE_IMPORT, *after])
    at = at.replace(microsecond=at.microsecond // 1_000 * 1_000)
    if at >= end:
        raise NightFull(f"the night {day} has a snapshot made at {max(after) - STEP}, and none can come after it")
    return Night(day, at, next((found.name for found in reversed(there) if found.source == source), None))


def _ingested(settings: Settings) -> list[datetime]:
    tables = DeltaTables(settings.tables_root)
    if not tables.exists(BRONZE.name):
        return []
    rows = tables.query("SELECT received_at AS at FROM bronze WHERE row_number = 0", BRONZE)
    return [moment.astimezone(UTC) for moment in rows["at"].to_pylist()]
