"""Find the snapshot that a step means: a named folder, a snapshot id, or the newest one below HOME."""

import json
from pathlib import Path

from lookalike.contracts.errors import NotFound
from lookalike.contracts.settings import Settings

SNAPSHOT_FILE = "snapshot.json"


def all_snapshots(settings: Settings) -> list[Path]:
    """Finished snapshots, oldest first by their own creation time."""
    folders = [path.parent for path in settings.snapshots_root.glob(f"*/{SNAPSHOT_FILE}")]
    return sorted(folders, key=lambda folder: json.loads((folder / SNAPSHOT_FILE).read_text())["created_at"])


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
