"""Upkeep of one Delta table: few large files, no dead ones, a short log, and every kept version readable.

Neither delta-rs nor Spark knows which old versions are still needed: their own clean-up of the log goes by age and
would one day take a version away that serves. So it is switched off per table, and the log is cleaned here, no further
than the oldest kept version. Needs no JVM. The caller holds the table's lock.
"""

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from lookalike.contracts.errors import CorruptArtifact, NotFound
from lookalike.storage.delta import KEEP_LOG, DeltaTables

if TYPE_CHECKING:
    from deltalake import DeltaTable

CHECKPOINT_COMMITS = 10
"""A checkpoint is written when the last one is so many commits old."""
COMMIT_TRIES = 4
_LOG_FILE = re.compile(r"\.?(\d{20})\.")
_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.")


@dataclass(frozen=True)
class Compaction:
    """So many small files became so many larger ones."""

    replaced: int
    written: int


@dataclass(frozen=True)
class Removed:
    """Files that were, or would be, deleted."""

    files: int
    bytes: int


class TableUpkeep:
    """One table. `keep`: versions that stay readable whatever their age, beside the newest one."""

    def __init__(self, tables: DeltaTables, name: str, keep: Collection[int]) -> None:
        """Raises NotFound without such a table, CorruptArtifact when a kept version cannot be opened any more."""
        if not tables.exists(name):
            raise NotFound(f"there is no Delta table at {tables.uri(name)}")
        self._uri, self._name = tables.uri(name), name
        self._keep = sorted(set(keep))
        for version in self._keep:
            self._open(version)

    def keep_log(self) -> bool:
        """Switch the engines' own clean-up of the log off; False when it was off already."""
        table = self._open()
        if table.metadata().configuration.get(KEEP_LOG) == "false":
            return False
        table.alter.set_table_properties({KEEP_LOG: "false"})
        return True

    def compactable(self, file_bytes: int) -> int:
        """Files smaller than `file_bytes` that have another one beside them in their partition."""
        small = Counter(
            str(PurePosixPath(path).parent) for path, size in self._files(self._open()) if size < file_bytes
        )
        return sum(count for count in small.values() if count > 1)

    def compact(self, file_bytes: int) -> Compaction:
        """Rewrite small files as files of about `file_bytes`; the rows stay as they are. Done again it does nothing."""
        from deltalake.exceptions import CommitFailedError

        for attempt in range(COMMIT_TRIES):
            try:
                done = self._open().optimize.compact(target_size=file_bytes)
                return Compaction(done["numFilesRemoved"], done["numFilesAdded"])
            except CommitFailedError:  # a writer of another machine was quicker
                if attempt == COMMIT_TRIES - 1:
                    raise
        raise AssertionError("the last try returned or raised")

    def vacuum(self, retention_hours: int, dry_run: bool) -> Removed:
        """Delete files that neither the newest nor a kept version holds and that left the table, or that no version
        ever held and were written, more than `retention_hours` ago.
        """
        dead = self._dead(retention_hours)
        if dead and not dry_run:
            self._vacuum(retention_hours, dry_run=False)
        return Removed(len(dead), sum(dead.values()))

    def checkpoint(self) -> bool:
        """Write a checkpoint at the newest version where the last one is old; False where none was due."""
        table = self._open()
        if table.version() - max(self._numbers(_CHECKPOINT), default=0) < CHECKPOINT_COMMITS:
            return False
        table.create_checkpoint()
        return True

    def clean_log(self, retention_hours: int, now: datetime, dry_run: bool) -> Removed:
        """Delete the log below the newest checkpoint from which every kept version, and every version of the last
        `retention_hours`, can still be reached. Oldest first: what a kill leaves is a whole log.
        """
        listed = self._listing("_delta_log", recursive=False)
        oldest = min([*self._keep, self._version_at(listed, now - timedelta(hours=retention_hours))])
        start = max((number for number in self._numbers(_CHECKPOINT) if number <= oldest), default=0)
        old = [
            info
            for info in sorted(listed, key=lambda info: info.base_name.lstrip("."))
            if (match := _LOG_FILE.match(info.base_name)) and int(match[1]) < start
        ]
        if not dry_run:
            for info in old:
                self._store.delete_file(info.path)
        return Removed(len(old), sum(info.size or 0 for info in old))

    def _version_at(self, listed: list[Any], moment: datetime) -> int:
        """The version that was the newest at `moment`, or 0 when the log does not say."""
        dated = ((match[1], info.mtime) for info in listed if (match := _COMMIT.fullmatch(info.base_name)))
        return max((int(number) for number, at in dated if at <= moment), default=0)

    def _dead(self, retention_hours: int) -> dict[str, int]:
        """Files to delete that are there, and their sizes. Names are unique: they hold a UUID."""
        listed = {_name(path) for path in self._vacuum(retention_hours, dry_run=True)}
        if not listed:
            return {}
        for version in [*self._keep, None]:
            held = {_name(path) for path, _ in self._files(self._open(version))}
            if held & listed:
                raise CorruptArtifact(
                    f"vacuum of {self._uri} would delete {min(held & listed)}, which version "
                    f"{'newest' if version is None else version} holds; nothing was deleted"
                )
        there = self._listing("", recursive=True)
        return {info.path: info.size or 0 for info in there if _name(info.path) in listed}

    def _vacuum(self, retention_hours: int, dry_run: bool) -> list[str]:
        return self._open().vacuum(
            retention_hours=retention_hours,
            dry_run=dry_run,
            enforce_retention_duration=False,  # the setting decides, not the table's property
            full=True,  # also what killed writers left
            keep_versions=self._keep or None,
        )

    def _files(self, table: "DeltaTable") -> list[tuple[str, int]]:
        import pyarrow as pa

        actions = pa.table(table.get_add_actions())
        return list(zip(actions["path"].to_pylist(), actions["size_bytes"].to_pylist(), strict=True))

    def _numbers(self, pattern: re.Pattern[str]) -> list[int]:
        names = (info.base_name for info in self._listing("_delta_log", recursive=False))
        return [int(match[1]) for name in names if (match := pattern.match(name))]

    def _listing(self, folder: str, recursive: bool) -> list[Any]:
        from pyarrow.fs import FileSelector, FileType

        found = self._store.get_file_info(FileSelector(folder, recursive=recursive))
        return [info for info in found if info.type == FileType.File]

    @cached_property
    def _store(self) -> Any:
        """The table's folder as a file system, wherever it lies."""
        from deltalake.fs import DeltaStorageHandler
        from pyarrow.fs import PyFileSystem

        return PyFileSystem(DeltaStorageHandler(self._uri))

    def _open(self, version: int | None = None) -> "DeltaTable":
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        try:
            return DeltaTable(self._uri, version=version)
        except DeltaError as error:
            raise CorruptArtifact(
                f"version {version} of table {self._name} must stay readable and cannot be opened at {self._uri}: "
                f"{error}. Nothing was changed"
            ) from error


def _name(path: str) -> str:
    return unquote(PurePosixPath(path).name)
