"""Snapshot, or recorded changes, → SILVER, with the refused kept. Spark starts only when there is something to do."""

from pathlib import Path
from typing import TYPE_CHECKING

from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings

if TYPE_CHECKING:
    from spark.changes import ChangesReport
    from spark.ingest import IngestReport


def ingest(settings: Settings, snapshot: Path, progress: Progress) -> "IngestReport | None":
    """Ingest one snapshot; None when exactly this snapshot is in the tables already."""
    from spark.ingest import ingest as run
    from spark.ingest import is_done
    from spark.session import start

    if is_done(settings, snapshot):
        return None
    return run(start(settings, "lookalike-ingest"), settings, snapshot, progress)


def ingest_changes(settings: Settings, records: Path, progress: Progress) -> "ChangesReport | None":
    """Apply a file of recorded changes (its format: `spark.changes`); None when the tables have taken it already."""
    from spark.changes import ingest_changes as run
    from spark.changes import is_done
    from spark.session import start

    if is_done(settings, records):
        return None
    return run(start(settings, "lookalike-ingest"), settings, records, progress)
