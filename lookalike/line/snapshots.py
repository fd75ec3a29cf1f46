"""Find the snapshots that a step means: a named folder, a snapshot id, the newest one below HOME, or those of a night.

A night is a UTC day. A snapshot belongs to the day that its name carries (`shop-2026-11-20-…`; of several the last),
else to the day on which it was made.
"""

import json
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from lookalike.contracts.errors import CorruptArtifact, NotFound
from lookalike.contracts.settings import Settings

SNAPSHOT_FILE = "snapshot.json"
_DAY = re.compile(r"(?<!\d)\d{4}-\d{2}-\d{2}(?![^\W_])")
"""No letter behind it either: what follows a name are hex digits of its content, and `shop-2026-11` is no day."""


@dataclass(frozen=True, order=True)
class Found:
    """A finished snapshot below HOME; in order of time, then of name."""

    made: datetime
    name: str
    source: str
    night: date
    folder: Path


def found_snapshots(settings: Settings) -> list[Found]:
    """Finished snapshots, oldest first by their own creation time. Raises CorruptArtifact for one that says none."""
    files = settings.snapshots_root.glob(f"*/{SNAPSHOT_FILE}")
    return sorted(_found(file.parent) for file in files if not file.parent.name.startswith("."))


def all_snapshots(settings: Settings) -> list[Path]:
    """Folders of finished snapshots, oldest first by their own creation time."""
    return [found.folder for found in found_snapshots(settings)]


def snapshots_of(settings: Settings, night: date) -> list[Path]:
    """Folders of the night's snapshots, oldest first: of each source the last of several."""
    last = {found.source: found for found in found_snapshots(settings) if found.night == night}
    return [found.folder for found in sorted(last.values())]


def known_nights(settings: Settings) -> list[date]:
    """Nights that have a snapshot, oldest first."""
    return sorted({found.night for found in found_snapshots(settings)})


def find_snapshot(settings: Settings, name: str | None) -> Path:
    """Folder of the snapshot `name` (path or id), or of the newest. Raises NotFound with those there are."""
    if name is None:
        snapshots = all_snapshots(settings)
        if snapshots:
            return snapshots[-1]
        raise NotFound(
            f"there is no snapshot below {settings.snapshots_root}; make one with "
            "`lookalike catalogue fetch icons` or `lookalike catalogue import PATH`"
        )
    for candidate in (Path(name), settings.snapshots_root / name):
        if (candidate / SNAPSHOT_FILE).is_file():
            return candidate
    known = ", ".join(folder.name for folder in all_snapshots(settings)) or "none"
    raise NotFound(f"no snapshot {name!r} (no {SNAPSHOT_FILE} there). Known below {settings.snapshots_root}: {known}")


def _found(folder: Path) -> Found:
    described = folder / SNAPSHOT_FILE
    try:
        values = json.loads(described.read_text())
        made = datetime.fromisoformat(values["created_at"])
        source = str(values["source"])
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptArtifact(
            f"{described} does not say source and created_at (a time, ISO 8601): {error!r}; remove the folder and "
            "make the snapshot again"
        ) from error
    made = made.replace(tzinfo=UTC) if made.tzinfo is None else made.astimezone(UTC)
    return Found(made, folder.name, source, _day_in(folder.name) or made.date(), folder)


def _day_in(name: str) -> date | None:
    for text in reversed(_DAY.findall(name)):
        try:
            return date.fromisoformat(text)
        except ValueError:
            continue
    return None
