"""EMBEDDINGS → index candidate, step by step: pin, train, encode each shard (`build_shards`), merge and register.

Each step is idempotent and may be killed: what is finished stays, what is half-written is thrown away, and a build
that is released answers each of its steps with nothing to do. Shards are encoded by as many processes as one likes.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lookalike.contracts.errors import NotFound
from lookalike.contracts.manifest import Manifest
from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.line.actor import current_actor
from lookalike.line.pins import (
    BuildPin,
    alone,
    build_folder,
    build_of,
    discard,
    discard_unfinished,
    locks_folder,
    read_pin,
    source_of,
    write_pin,
)
from lookalike.line.watermark import log_offsets
from lookalike.releases.encoder_in_use import encoder_in_use
from lookalike.releases.registry import Registry
from lookalike.releases.release import Release
from lookalike.storage.atomic import new_directory
from lookalike.storage.delta import DeltaTables
from lookalike.storage.table_lock import only_writer

if TYPE_CHECKING:
    from index_builder.pin import Pin
    from index_builder.tune import EncodeTexts
    from lookalike.contracts.encoder import Vectors

PIN_LOCK = "pins"


@dataclass(frozen=True)
class PinReport:
    """A build and its shards. `reused`: release `version` holds exactly this already, and no step has work to do."""

    build: str
    shards: tuple[int, ...]
    reused: bool
    version: str | None
    resumed: bool
    recipe: str
    because: str
    table_versions: dict[str, int]
    folder: Path


@dataclass(frozen=True)
class TrainReport:
    """Where the quantiser comes from ("trained", "reused from version N", "none"), and why."""

    build: str
    quantiser: str
    because: str


@dataclass(frozen=True)
class BuildReport:
    """A registered candidate. `reused`: it was there before this call."""

    version: str
    build: str
    reused: bool
    items: int
    recipe: str
    because: str
    quantiser: str
    bytes: int
    table_versions: dict[str, int]
    directory: Path
    seconds: float


def pin(settings: Settings, recipe: str | None = None, encoder: str | None = None) -> PinReport:
    """Decide what to build from the newest table versions, and write it down.

    `encoder`: folder or hub id whose space is indexed; default: the one in use.
    """
    from index_builder.delta_source import DeltaSource
    from index_builder.pin import make_pin
    from models.encoders import encoder_directory, open_encoder

    path = encoder or encoder_in_use(settings)
    space = open_encoder(path, device="cpu", threads=1).space
    tables, registry = DeltaTables(settings.tables_root), Registry(settings)
    source = DeltaSource.newest(tables, space)
    offsets = log_offsets(settings, source.versions[SILVER.name], source.versions[EMBEDDINGS.name])
    wanted = make_pin(settings, source, recipe, offsets, words=True)
    existing = _same_inputs(registry, tables, wanted)
    if existing is not None:
        return _reused(existing)
    wanted = _offer_quantiser(registry, wanted)
    name = f"{wanted.created_at:%Y%m%dT%H%M%S}-{space.fingerprint}-{wanted.build_id[:8]}"
    kept = BuildPin(**dict(wanted), encoder_dir=encoder_directory(path), release=name)
    with only_writer(locks_folder(settings), PIN_LOCK, "index pin"):
        before = read_pin(settings, kept.build_id)
        if before is None:
            write_pin(settings, kept)
    return _pinned(settings, before or kept, resumed=before is not None)


def train(settings: Settings, progress: Progress, build: str) -> TrainReport:
    """Train the quantiser, or take over the live release's; recipes without lists have none. Raises NotFound."""
    from index_builder.memory import capped
    from index_builder.train import TRAINED
    from index_builder.train import train as run

    with alone(settings, build, "train") as found:
        if isinstance(found, BuildPin):
            folder = build_folder(settings, build)
            discard_unfinished(folder / TRAINED)
            with capped(settings.index.build_memory_bytes):
                facts = run(folder, found, source_of(settings, found), progress, _texts_by(found))
            return TrainReport(build, facts.how, facts.because)
    quantiser = Manifest.read(found).build.get("quantiser", {})
    return TrainReport(build, quantiser.get("how", "none"), f"the build is released already: {found.name}")


def merge(settings: Settings, progress: Progress, build: str) -> BuildReport:
    """Seal the index, register it as `candidate`, and clear the build away; a released build is the candidate again.

    Killed anywhere and run again it gives the same version. Raises NotFound, MissingPrerequisite (shards are missing).
    """
    started = time.monotonic()
    with alone(settings, build, "merge") as found:
        if isinstance(found, BuildPin):
            version = _seal(settings, progress, build_folder(settings, build), found)
            discard(settings, build)
            return _report(version, settings.releases_root / found.release, False, started)
    registry = Registry(settings)
    release = _release_of(registry, found)
    registry.set_candidate(release.version)
    return _report(release.version, found, True, started)


def _seal(settings: Settings, progress: Progress, work: Path, pinned: BuildPin) -> str:
    from index_builder.memory import capped
    from index_builder.merge import merge as run

    target = settings.releases_root / pinned.release
    if not target.is_dir():  # else a process was killed between sealing and clearing away
        discard_unfinished(target)
        with new_directory(target) as folder, capped(settings.index.build_memory_bytes):
            run(work, folder, pinned, source_of(settings, pinned), progress, _texts_by(pinned))
    return Registry(settings).register(target, pinned.encoder_dir, current_actor()).version


def _texts_by(pinned: BuildPin) -> "EncodeTexts":
    """The pinned encoder's way with words; opened when it is asked first."""

    def encode_texts(texts: Sequence[str]) -> "Vectors":
        from models.encoders import open_encoder

        return open_encoder(str(pinned.encoder_dir), device="cpu").encode_texts(texts)

    return encode_texts


def _offer_quantiser(registry: Registry, wanted: "Pin") -> "Pin":
    from index_builder.pin import with_quantiser_of
    from lookalike.releases.proof import read_manifest

    live = registry.live()
    if live is None:
        return wanted.model_copy(update={"not_reusable_because": "no release is live"})
    return with_quantiser_of(wanted, live.version, live.index_dir, read_manifest(live.index_dir))


def _same_inputs(registry: Registry, tables: DeltaTables, wanted: "Pin") -> Release | None:
    """A release of the same rows; upkeep of the tables between the two versions makes no other index."""
    for release in registry.releases():
        if not (release.index_dir / "manifest.json").is_file():
            continue
        manifest = Manifest.read(release.index_dir)
        if manifest.space != wanted.space or manifest.recipe != wanted.recipe:
            continue
        if all(
            name in manifest.table_versions and tables.same_rows(name, manifest.table_versions[name], version)
            for name, version in wanted.table_versions.items()
        ):
            return release
    return None


def _release_of(registry: Registry, directory: Path) -> Release:
    sealed = Manifest.read(directory).sha256
    for release in registry.releases():
        if release.manifest_sha256 == sealed:
            return release
    raise NotFound(f"{directory} is no longer a release of the registry; `lookalike index pin` starts a new build")


def _reused(release: Release) -> PinReport:
    manifest = Manifest.read(release.index_dir)
    return PinReport(
        build=build_of(manifest),
        shards=(0,),  # a schedule that maps tasks over the shards goes on to the merge, which names the release
        reused=True,
        version=release.version,
        resumed=False,
        recipe=manifest.recipe.name,
        because=manifest.chosen_because,
        table_versions=manifest.table_versions,
        folder=release.index_dir,
    )


def _pinned(settings: Settings, kept: BuildPin, resumed: bool) -> PinReport:
    return PinReport(
        build=kept.build_id,
        shards=tuple(shard.number for shard in kept.shards),
        reused=False,
        version=None,
        resumed=resumed,
        recipe=kept.recipe.name,
        because=kept.chosen_because,
        table_versions=kept.table_versions,
        folder=build_folder(settings, kept.build_id),
    )


def _report(version: str, directory: Path, reused: bool, started: float) -> BuildReport:
    manifest = Manifest.read(directory)
    return BuildReport(
        version=version,
        build=build_of(manifest),
        reused=reused,
        items=manifest.items,
        recipe=manifest.recipe.name,
        because=manifest.chosen_because,
        quantiser=manifest.build.get("quantiser", {}).get("how", "none"),
        bytes=sum(file.bytes for file in manifest.files.values()),
        table_versions=manifest.table_versions,
        directory=directory,
        seconds=time.monotonic() - started,
    )
