"""EMBEDDINGS → index candidate: a sealed index from pinned table versions, registered in MLflow as `candidate`.

When a release with the same tables, space and recipe exists already, that one is the candidate again: a night without
changes builds nothing. A fold that changed no table only moves the watermark, which does not make another release:
servers replay a little more, and replaying twice is harmless.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lookalike.contracts.manifest import Manifest
from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.line.actor import current_actor
from lookalike.line.watermark import log_offsets
from lookalike.releases.registry import Registry
from lookalike.releases.release import Release
from lookalike.storage.delta import DeltaTables


@dataclass(frozen=True)
class BuildReport:
    """What `lookalike build` did."""

    version: str
    reused: bool
    items: int
    recipe: str
    because: str
    bytes: int
    table_versions: dict[str, int]
    directory: Path
    seconds: float


def build(settings: Settings, progress: Progress, recipe: str | None = None) -> BuildReport:
    """Build and register a candidate, or name the release that holds exactly this already."""
    from index_builder.build import build as build_index
    from models.encoders import encoder_directory, open_encoder

    started = time.monotonic()
    space = open_encoder(settings.encoder.path, device="cpu", threads=1).space
    tables = DeltaTables(settings.tables_root)
    registry = Registry(settings)
    versions = {table.name: tables.version(table.name) for table in (SILVER, EMBEDDINGS)}
    existing = _same_inputs(registry, versions, space, recipe or settings.index.recipe)
    if existing is not None:
        registry.set_candidate(existing.version)
        return _report(existing.version, existing.index_dir, True, started)
    target = settings.releases_root / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{space.fingerprint}"
    # Read before the build pins its versions, which are these or newer: the watermark then never promises too much.
    offsets = log_offsets(settings, versions[SILVER.name], versions[EMBEDDINGS.name])
    build_index(settings, space, tables, target, progress, recipe, offsets)
    release = registry.register(target, encoder_directory(settings.encoder.path), current_actor())
    return _report(release.version, target, False, started)


def _same_inputs(registry: Registry, versions: dict[str, int], space: EmbeddingSpace, recipe: str) -> Release | None:
    for release in registry.releases():
        if not (release.index_dir / "manifest.json").is_file():
            continue
        manifest = Manifest.read(release.index_dir)
        same_recipe = recipe in {manifest.recipe.name, "auto"}
        if manifest.table_versions == versions and manifest.space == space and same_recipe:
            return release
    return None


def _report(version: str, directory: Path, reused: bool, started: float) -> BuildReport:
    manifest = Manifest.read(directory)
    return BuildReport(
        version=version,
        reused=reused,
        items=manifest.items,
        recipe=manifest.recipe.name,
        because=manifest.chosen_because,
        bytes=sum(file.bytes for file in manifest.files.values()),
        table_versions=manifest.table_versions,
        directory=directory,
        seconds=time.monotonic() - started,
    )
