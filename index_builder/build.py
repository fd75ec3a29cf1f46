"""Build in one go: pin, train, encode each shard, merge, in a temporary folder that becomes the artifact.

The same steps run as commands of their own in `lookalike.line.build_steps`, with the same result: the same inputs give
the same files, byte for byte; only the manifest's time stamps and measured figures differ.
"""

import shutil
from pathlib import Path

from index_builder.merge import merge
from index_builder.pin import make_pin
from index_builder.shard import encode
from index_builder.train import train
from index_builder.tune import EncodeTexts
from lookalike.contracts.manifest import Manifest
from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.storage.atomic import new_directory
from lookalike.storage.delta import DeltaTables

WORK_NAME = "work"


def build(
    settings: Settings,
    space: EmbeddingSpace,
    tables: DeltaTables,
    target: Path,
    progress: Progress,
    recipe: str | None = None,
    log_offsets: dict[str, int] | None = None,
    encode_texts: EncodeTexts | None = None,
) -> Manifest:
    """Build the index of `space` from the newest table versions into the new directory `target`.

    `recipe` overrides `settings.index.recipe`; "auto" chooses by budget. `log_offsets`: how far of the update log the
    tables reach, by partition. `encode_texts`: see `train`. Raises NotFound (table, recipe), SpaceMismatch, BadVectors,
    SettingsError (no recipe fits), LookalikeError (too few items, target exists).
    """
    versions = {table.name: tables.version(table.name) for table in (SILVER, EMBEDDINGS)}
    with new_directory(target) as folder:
        pin = make_pin(settings, space, tables, versions, recipe, log_offsets)
        work = folder / WORK_NAME
        train(work, pin, tables, progress, encode_texts)
        for shard in pin.shards:
            encode(work, pin, shard.number, tables, progress)
        manifest = merge(work, folder, pin, tables, progress, encode_texts)
        shutil.rmtree(work)
    return manifest
