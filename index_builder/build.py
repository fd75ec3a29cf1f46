"""Build: pinned tables → a sealed artifact directory, whole or not at all.

Everything is written to a temporary folder, checksummed, flushed and renamed. The same inputs give the same files,
byte for byte; only the manifest's time stamps and measured figures differ.
"""

import hashlib
import os
import resource
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
from pyarrow import ipc

from index_builder.gather import Gathered, gather
from index_builder.reader import INDEX_NAME, ITEMS_NAME, open_index
from index_builder.recipes import AUTO, choose, load_recipe
from index_builder.train import settle, train_and_fill
from index_builder.tune import measure_points
from lookalike.contracts.manifest import MANIFEST_NAME, FileRecord, IndexRecipe, Manifest, OperatingPoint
from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.storage.atomic import new_directory
from lookalike.storage.delta import DeltaTables

SCRATCH_NAME = "vectors.scratch"
ITEMS_PER_BATCH = 65_536


def build(
    settings: Settings,
    space: EmbeddingSpace,
    tables: DeltaTables,
    target: Path,
    progress: Progress,
    recipe: str | None = None,
    log_offsets: dict[str, int] | None = None,
) -> Manifest:
    """Build the index of `space` from the newest table versions into the new directory `target`.

    `recipe` overrides `settings.index.recipe`; "auto" chooses by budget. `log_offsets`: how far of the update log the
    tables reach, by partition. Raises NotFound (table, recipe),
    SpaceMismatch, BadVectors, SettingsError (no recipe fits), LookalikeError (too few items, target exists).
    """
    started = time.monotonic()
    versions = {table.name: tables.version(table.name) for table in (SILVER, EMBEDDINGS)}
    with new_directory(target) as folder:
        scratch = folder / SCRATCH_NAME
        gathered = gather(tables, versions, space, scratch, progress)
        chosen, because = _choose(settings, recipe or settings.index.recipe, len(gathered.vectors), space.dim)
        _write_index(folder / INDEX_NAME, chosen, gathered, progress)
        _write_items(folder / ITEMS_NAME, gathered.items)
        manifest = Manifest(
            created_at=datetime.now(UTC),
            space=space,
            recipe=chosen,
            chosen_because=because,
            items=len(gathered.vectors),
            table_versions=versions,
            log_offsets=log_offsets or {},
            files={name: record(folder / name) for name in (INDEX_NAME, ITEMS_NAME)},
            build={"coverage": gathered.coverage},
        )
        points = _measure(folder, manifest, gathered, progress)
        manifest = manifest.model_copy(
            update={"operating_points": points, "build": manifest.build | _build_facts(started)}
        )
        _write_manifest(folder, manifest)
        del gathered
        scratch.unlink()
    return manifest


def record(path: Path) -> FileRecord:
    """Size and sha256 of a file, read in blocks."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileRecord(sha256=digest, bytes=path.stat().st_size)


def _choose(settings: Settings, name: str, items: int, dim: int) -> tuple[IndexRecipe, str]:
    if name != AUTO:
        return settle(load_recipe(name), items), f"{name} was named in the settings or on the command line"
    recipe, because = choose(items, dim, settings.index.memory_bytes, settings.index.latency_ms)
    return settle(recipe, items), because


def _write_index(path: Path, recipe: IndexRecipe, gathered: Gathered, progress: Progress) -> None:
    with progress.step(f"build index ({recipe.name})", len(gathered.vectors)) as step:
        faiss.write_index(train_and_fill(recipe, gathered.vectors, step.advance), str(path))


def _write_items(path: Path, items: pa.Table) -> None:
    """Uncompressed Arrow file, so that it can be mapped and a row be read without reading the others."""
    with pa.OSFile(str(path), "wb") as sink, ipc.new_file(sink, items.schema) as writer:
        writer.write_table(items, max_chunksize=ITEMS_PER_BATCH)


def _measure(folder: Path, manifest: Manifest, gathered: Gathered, progress: Progress) -> tuple[OperatingPoint, ...]:
    """Operating points of the files as written, opened as a server would."""
    _write_manifest(folder, manifest)
    index = open_index(folder, verify=False)
    with progress.step("measure operating points") as step:
        points = measure_points(index, np.asarray(gathered.vectors))
        step.advance(len(points))
    return points


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2) + "\n")


def _build_facts(started: float) -> dict[str, Any]:
    return {
        "seconds": round(time.monotonic() - started, 3),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "threads": faiss.omp_get_max_threads(),
        "cpus": os.cpu_count(),
        "faiss": faiss.__version__,
        "numpy": np.__version__,
        "pyarrow": pa.__version__,
    }
