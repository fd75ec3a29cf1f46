"""A user's own catalogue → snapshot: opens Delta where PATH is a Delta table, hands everything else to the importer."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from lookalike.catalogue.importer import import_catalogue
from lookalike.catalogue.snapshot import Snapshot
from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings
from lookalike.storage.delta import DeltaTables


def import_path(
    settings: Settings, path: str, mapping: Path | None, source: str, complete: bool, progress: Progress
) -> Snapshot:
    """Write a snapshot from Parquet, CSV, JSON Lines or Delta; see `lookalike.catalogue.importer`."""
    folder, _, name = path.rstrip("/").rpartition("/")
    tables = DeltaTables(folder or ".")
    batches: Iterator[pa.RecordBatch] | None = tables.raw_batches(name) if tables.exists(name) else None
    return import_catalogue(settings, path, mapping, progress, source=source, complete=complete, batches=batches)
