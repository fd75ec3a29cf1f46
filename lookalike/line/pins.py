"""Builds under way: what each has pinned, where its steps leave their results, and which are released already.

`HOME/builds/<id>/pin.json` names the table versions that maintenance must leave readable. The folder appears whole and
goes when its release is registered; from then on the release's own manifest answers for the id.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from index_builder.pin import Pin
from lookalike.contracts.errors import CorruptArtifact, NotFound
from lookalike.contracts.manifest import MANIFEST_NAME, Manifest
from lookalike.contracts.settings import Settings
from lookalike.releases.registry import Registry
from lookalike.releases.release import Release
from lookalike.storage.atomic import TEMPORARY_PREFIX, new_directory, temporary_beside
from lookalike.storage.delta import DeltaTables
from lookalike.storage.table_lock import only_writer

if TYPE_CHECKING:
    from index_builder.delta_source import DeltaSource

PIN_NAME = "pin.json"
_ID = re.compile(r"[0-9a-f]{16}")


class BuildPin(Pin):
    """What the steps of a build need besides the index's own inputs."""

    encoder_dir: Path = Field(description="folder of the encoder whose space this is")
    release: str = Field(description="name of the folder below releases/ that the merge makes")


def build_folder(settings: Settings, build: str) -> Path:
    """Where the steps of a build leave their results. Raises NotFound for what is no id of a build."""
    if not _ID.fullmatch(build):
        raise NotFound(f"{build!r} is no id of a build (16 hex digits); `lookalike index pin` names one")
    return settings.builds_root / build


def locks_folder(settings: Settings) -> Path:
    """Locks of the steps; outside the builds' folders, because a lock must not make the folder of a build anew."""
    return settings.locks_root / "builds"


def under_way(settings: Settings) -> list[str]:
    """Ids of the builds that were pinned and are not registered yet, sorted."""
    return sorted(path.parent.name for path in settings.builds_root.glob(f"[!.]*/{PIN_NAME}"))


def read_pin(settings: Settings, build: str) -> BuildPin | None:
    """The pin of a build under way, or None. Raises CorruptArtifact when it cannot be read."""
    path = build_folder(settings, build) / PIN_NAME
    try:
        pin = BuildPin.model_validate_json(path.read_text())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise CorruptArtifact(
            f"{path} is not a pin of this version: {error}. Remove the folder and pin again."
        ) from error
    if pin.build_id != build:
        raise CorruptArtifact(f"{path} is the pin of build {pin.build_id}. Remove the folder and pin again.")
    return pin


def write_pin(settings: Settings, pin: BuildPin) -> None:
    """Make the build's folder, whole or not at all."""
    target = build_folder(settings, pin.build_id)
    discard_unfinished(target)
    with new_directory(target) as folder:
        (folder / PIN_NAME).write_text(pin.model_dump_json(indent=2) + "\n")


def require_build(settings: Settings, build: str) -> BuildPin | Path:
    """The pin of a build under way, or the folder of the release that it has become. Raises NotFound."""
    pin = read_pin(settings, build)
    if pin is not None:
        return pin
    released = released_as(settings, build)
    if released is not None:
        return released
    known = ", ".join(under_way(settings)) or "none"
    raise NotFound(f"there is no build {build}; under way: {known}. `lookalike index pin` starts one")


@contextmanager
def alone(settings: Settings, build: str, step: str) -> Iterator[BuildPin | Path]:
    """What the build is, pinned or released, while no other process does the same step of it."""
    require_build(settings, build)
    with only_writer(locks_folder(settings), f"{build}-{step.replace(' ', '-')}", f"index {step} --build {build}"):
        yield require_build(settings, build)  # it may have been released while this process waited


def source_of(settings: Settings, pinned: BuildPin) -> "DeltaSource":
    """The rows that were pinned."""
    from index_builder.delta_source import DeltaSource

    return DeltaSource(DeltaTables(settings.tables_root), pinned.space, pinned.table_versions)


def released_as(settings: Settings, build: str) -> Path | None:
    """Folder of the newest sealed artifact that this build made."""
    here = [path.parent for path in sorted(settings.releases_root.glob(f"[!.]*/{MANIFEST_NAME}"), reverse=True)]
    # The registry knows artifacts of other homes too, but takes seconds to open.
    for folder in chain(here, (release.index_dir for release in _registered(settings))):
        try:
            if build_of(Manifest.read(folder)) == build:
                return folder
        except (OSError, ValidationError):  # the gate says so of a release that somebody wants
            continue
    return None


def _registered(settings: Settings) -> Iterator[Release]:
    yield from Registry(settings).releases()


def build_of(manifest: Manifest) -> str:
    """Id of the build that made an artifact; one from before there were ids has that of its files."""
    return str(manifest.build.get("id", manifest.sha256[:16]))


def discard_unfinished(target: Path) -> None:
    """Remove what killed processes left of `target` under temporary names. Only for who holds its lock."""
    for left in target.parent.glob(f"{TEMPORARY_PREFIX}{target.name}-*"):
        shutil.rmtree(left, ignore_errors=True)


def discard(settings: Settings, build: str) -> None:
    """Remove a build's folder: gone from sight at once, from disk a little later."""
    folder = build_folder(settings, build)
    discard_unfinished(folder)
    if folder.is_dir():
        leaving = temporary_beside(folder)
        folder.rename(leaving)
        shutil.rmtree(leaving)
    for lock in locks_folder(settings).glob(f"{build}-*.lock"):
        lock.unlink(missing_ok=True)
