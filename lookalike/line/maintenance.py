"""Upkeep of all tables: put small files together, delete dead ones, keep the log short, and never touch what is pinned.

A release that some alias names and a build that is under way have pinned Delta versions: the gate reads them again, and
so does a roll-back's proof. They stay readable whatever their age. Vacuum comes before compaction, so that the version
that was the newest when a run began can be read until the next run.
"""

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lookalike.contracts import tables as contracts
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings
from lookalike.contracts.tables import TableContract
from lookalike.releases.registry import Registry
from lookalike.storage.delta import DeltaTables
from lookalike.storage.delta_upkeep import Compaction, Removed, TableUpkeep
from lookalike.storage.table_lock import only_writer

LOG = logging.getLogger("lookalike.tables")
PINNED = "table_versions"


class BuildUnreadable(LookalikeError):
    """A build's folder does not say which versions it pins, so nothing may be deleted."""


@dataclass(frozen=True)
class Pin:
    """`version` of `table` must stay readable because of `by`."""

    table: str
    version: int
    by: str


@dataclass(frozen=True)
class TableReport:
    """What was, or with a dry run would be, done to one table. `compacted.written` is not known to a dry run."""

    table: str
    version: int
    pinned: tuple[int, ...]
    deleted: Removed
    compacted: Compaction
    log: Removed


@dataclass(frozen=True)
class MaintenanceReport:
    """Of one run over all tables."""

    tables: tuple[TableReport, ...]
    pins: tuple[Pin, ...]
    dry_run: bool
    seconds: float


def all_contracts() -> list[TableContract]:
    """Every table that there may be, by name."""
    found = [value for value in vars(contracts).values() if isinstance(value, TableContract)]
    return sorted(found, key=lambda contract: contract.name)


def pins(settings: Settings, registry: Registry) -> list[Pin]:
    """Versions that releases with an alias and builds under way pin. Raises BuildUnreadable."""
    found = [
        Pin(table, version, f"release {release.version} ({', '.join(release.aliases)})")
        for release in registry.releases()
        if release.aliases
        for table, version in release.table_versions.items()
    ]
    for build in build_folders(settings):
        found += [Pin(table, version, f"build {build.name}") for table, version in _pinned_by(build).items()]
    return sorted(set(found), key=lambda pin: (pin.table, pin.version, pin.by))


def build_folders(settings: Settings) -> list[Path]:
    """Builds under way, by name."""
    root = settings.builds_root
    if not root.is_dir():
        return []
    return sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))


def maintain(settings: Settings, progress: Progress, dry_run: bool = False) -> MaintenanceReport:
    """Tend every table in turn, each under its lock. Killed anywhere and run again it comes to the same end.

    Raises BuildUnreadable, CorruptArtifact when a pinned version cannot be opened, LookalikeError without a registry.
    """
    started = time.monotonic()
    tables, registry = DeltaTables(settings.tables_root), Registry(settings)
    there = [contract.name for contract in all_contracts() if tables.exists(contract.name)]
    reports = []
    with progress.step("tables", total=len(there)) as step:
        for name in there:
            with only_writer(settings.locks_root, name, "maintenance"):
                # Read under the lock, for each table anew: a build may have pinned a version meanwhile.
                reports.append(_tend(settings, tables, name, pins(settings, registry), dry_run))
            step.advance()
    return MaintenanceReport(tuple(reports), tuple(pins(settings, registry)), dry_run, time.monotonic() - started)


def _tend(settings: Settings, tables: DeltaTables, name: str, pinned: list[Pin], dry_run: bool) -> TableReport:
    keep = sorted({pin.version for pin in pinned if pin.table == name})
    rules, upkeep = settings.maintenance, TableUpkeep(tables, name, keep)
    if not dry_run:
        upkeep.keep_log()
    deleted = upkeep.vacuum(rules.retention_hours, dry_run)
    if dry_run:
        compacted = Compaction(upkeep.compactable(rules.file_bytes), 0)
    else:
        compacted = upkeep.compact(rules.file_bytes)
        upkeep.checkpoint()
    log = upkeep.clean_log(rules.retention_hours, datetime.now(UTC), dry_run)
    return TableReport(name, tables.version(name), tuple(keep), deleted, compacted, log)


def _pinned_by(build: Path) -> dict[str, int]:
    for document in build_documents(build):
        versions = document.get(PINNED)
        if isinstance(versions, dict) and all(type(version) is int for version in versions.values()):
            return versions
    if not build.is_dir():  # it was released, and so removed, while we looked
        return {}
    raise BuildUnreadable(
        f"{build} holds no file that names its {PINNED}, so maintenance cannot know what it pins and deletes nothing. "
        "Finish that build, or remove the folder when nothing works on it"
    )


def build_documents(build: Path) -> Iterator[dict[str, Any]]:
    """What a build under way has written down of itself."""
    for path in sorted(build.glob("*.json")):
        try:
            document = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if isinstance(document, dict):
            yield document
