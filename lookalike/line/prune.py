"""Old releases, folders that nobody owns, builds that nobody finishes and old reports go; what is in use stays.

In use is a release that an alias names, that a server says it serves, whose list centres a build under way takes, or
that is among the newest. Run again after a
kill it goes on where it was: what is half gone is found by the ledger or by its temporary name.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings
from lookalike.line.actor import current_actor
from lookalike.line.maintenance import build_documents, build_folders
from lookalike.line.reports import SILENT_SECONDS, server_reports
from lookalike.releases.prune import LEAVING_PREFIX, ReleaseRemover, remove_folder, verdicts_owner
from lookalike.releases.registry import Registry
from lookalike.releases.release import Release

_RUN = re.compile(r"(\d{8}T\d{6})\d*Z?-([0-9a-f]{12})(?:[-.].*)?")
"""Name of a report of one release: when, then the start of its manifest's hash; see `quality.evidence.run_name`."""
SERVERS_HEARD = timedelta(minutes=10)
"""A server that said so lately what it serves may still serve it, although it is silent now."""


@dataclass(frozen=True)
class Gone:
    """A folder that was, or would be, deleted, and why. `bytes` is what it held."""

    folder: Path
    why: str
    bytes: int


@dataclass(frozen=True)
class PruneReport:
    """`removed`: versions of releases; `kept`: versions with the reason why they stay."""

    removed: tuple[str, ...]
    kept: dict[str, str]
    folders: tuple[Gone, ...]
    dry_run: bool
    seconds: float

    @property
    def bytes(self) -> int:
        """Room that was, or would be, made."""
        return sum(gone.bytes for gone in self.folders)


def prune(settings: Settings, keep: int | None, dry_run: bool, progress: Progress) -> PruneReport:
    """Remove releases beyond the `keep` newest (default: the setting), their folders, stale builds and old reports.

    Raises LookalikeError when registry or log cannot be read: what is in use is not known then.
    """
    started = time.monotonic()
    keep = settings.maintenance.keep_releases if keep is None else keep
    remover = ReleaseRemover(settings)
    releases, used = Registry(settings).releases(), _of_builds(settings) | _served(settings)
    reasons = {release.version: _reason(release, number, keep, used) for number, release in enumerate(releases)}
    kept = {version: why for version, why in reasons.items() if why}
    doomed = [release for release in releases if release.version not in kept]
    removed = []
    with progress.step("prune", total=len(doomed)) as step:
        for release in doomed:
            if dry_run or remover.remove(release, {"kept_newest": keep}, current_actor()):
                removed.append(release.version)
            step.advance()
        owned = [release for release in releases if release.version not in removed]
        folders = list(_folders(settings, remover, owned, [r for r in doomed if r.version in removed]))
        for gone in folders:
            if not dry_run:
                remove_folder(gone.folder)
    return PruneReport(tuple(removed), kept, tuple(folders), dry_run, time.monotonic() - started)


def _reason(release: Release, number: int, keep: int, used: dict[str, str]) -> str:
    """Why a release stays, the `number`-th newest; empty when it does not."""
    if release.aliases:
        return ", ".join(release.aliases)
    if release.version in used:
        return used[release.version]
    return f"among the {keep} newest" if number < keep else ""


def _of_builds(settings: Settings) -> dict[str, str]:
    documents = (
        (build.name, one.get("reusable")) for build in build_folders(settings) for one in build_documents(build)
    )
    return {
        str(reusable.get("version")): f"build {name} takes its list centres"
        for name, reusable in documents
        if isinstance(reusable, dict)
    }


def _served(settings: Settings) -> dict[str, str]:
    since = datetime.now(UTC) - max(SERVERS_HEARD, timedelta(seconds=SILENT_SECONDS))
    return {
        report.release: f"server {report.server} answers from it"
        for report in server_reports(settings)
        if report.release is not None and not report.stopped and report.at >= since
    }


def _folders(
    settings: Settings, remover: ReleaseRemover, owned: list[Release], removed: list[Release]
) -> Iterator[Gone]:
    """What may go. Folders are known by their names, so that a home that was moved loses nothing."""
    mine = {release.index_dir.name for release in owned}
    told = {folder.name for folder in remover.removed_folders()} | {release.index_dir.name for release in removed}
    old = datetime.now(UTC) - timedelta(hours=settings.maintenance.retention_hours)
    for folder in _below(settings.releases_root):
        owner = verdicts_owner(folder)
        if owner in mine:
            continue
        if owner in told:
            yield _gone(folder, "of a removed release")
        elif _leaving(folder) or _last_write(folder) < old:
            yield _gone(folder, "of no release")
    for folder in _below(settings.builds_root):
        if _leaving(folder) or _last_write(folder) < old:
            yield _gone(folder, "a build that nobody went on with")
    yield from _reports(settings, {release.manifest_sha256[:12] for release in owned})


def _reports(settings: Settings, manifests: set[str]) -> Iterator[Gone]:
    """Reports of releases that are gone; those of a release that is there are its evidence."""
    old = datetime.now(UTC) - timedelta(days=settings.maintenance.report_days)
    root = settings.reports_root
    for folder in [*_below(root), *(each for kind in _below(root) for each in _below(kind))]:
        match = _RUN.fullmatch(folder.name)
        stale = match is not None and match[2] not in manifests and _time_of(match[1]) < old
        if stale or _leaving(folder):
            yield _gone(folder, "a report of a release that is gone")


def _time_of(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)


def _leaving(folder: Path) -> bool:
    return folder.name.startswith(LEAVING_PREFIX)


def _below(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _gone(folder: Path, why: str) -> Gone:
    return Gone(folder, why, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))


def _last_write(folder: Path) -> datetime:
    """When anything in it was last written."""
    times = [path.stat().st_mtime for path in (folder, *folder.rglob("*"))]
    return datetime.fromtimestamp(max(times), UTC)
