"""Build in one go: pin, train, encode each shard, merge, in a temporary folder that becomes the artifact.

The same steps run as commands of their own in `lookalike.line.build_steps`, with the same result: the same inputs give
the same files, byte for byte; only the manifest's time stamps and measured figures differ.
"""

import shutil
from functools import partial
from pathlib import Path

from index_builder.memory import capped, processes_of
from index_builder.merge import merge, missing_shards
from index_builder.pin import Pin, make_pin
from index_builder.processes import run_shards
from index_builder.shard import encode
from index_builder.source import Source
from index_builder.train import train
from index_builder.tune import EncodeTexts
from lookalike.contracts.manifest import Manifest
from lookalike.contracts.progress import LogProgress, Progress
from lookalike.contracts.settings import IndexSettings, Settings
from lookalike.storage.atomic import new_directory

WORK_NAME = "work"


def build(
    settings: Settings,
    source: Source,
    target: Path,
    progress: Progress,
    recipe: str | None = None,
    log_offsets: dict[str, int] | None = None,
    encode_texts: EncodeTexts | None = None,
) -> Manifest:
    """Build the index of all that `source` has into the new directory `target`.

    `recipe` overrides `settings.index.recipe`; "auto" chooses by budget. `log_offsets`: how far of the update log the
    source reaches, by partition. `encode_texts`: see `train`. Raises NotFound (recipe), SettingsError (no recipe fits),
    LookalikeError (too few items, target exists), and what the source raises.
    """
    with new_directory(target) as folder:
        pin = make_pin(settings, source, recipe, log_offsets, words=encode_texts is not None)
        work = folder / WORK_NAME
        with capped(settings.index.build_memory_bytes):
            train(work, pin, source, progress, encode_texts)
        encode_missing(work, pin, source, settings.index, progress)
        with capped(settings.index.build_memory_bytes):
            manifest = merge(work, folder, pin, source, progress, encode_texts)
        shutil.rmtree(work)
    return manifest


def encode_missing(work: Path, pin: Pin, source: Source, settings: IndexSettings, progress: Progress) -> None:
    """Encode the shards that are not there yet, `settings.processes` at a time."""
    one = partial(_encode, work, pin, source, processes_of(settings))
    run_shards(one, missing_shards(work, pin), settings, progress)


def _encode(work: Path, pin: Pin, source: Source, at_a_time: int, number: int) -> int:
    return encode(work, pin, number, source, LogProgress(), at_a_time).coverage.indexed
