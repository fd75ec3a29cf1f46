"""Shards of a build: one by number, or all that are missing, in bounded processes of this machine or in a cluster."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from lookalike.contracts.errors import NotFound
from lookalike.contracts.progress import LogProgress, Progress
from lookalike.contracts.settings import Settings
from lookalike.line.pins import BuildPin, alone, build_folder, discard_unfinished, require_build, source_of

Engine = Literal["processes", "spark"]


@dataclass(frozen=True)
class EncodeReport:
    """One shard. `encoded` is False when it was finished before."""

    build: str
    shard: int
    items: int
    encoded: bool


def encode(settings: Settings, progress: Progress, build: str, shard: int) -> EncodeReport:
    """Gather and encode one shard. Raises NotFound (build, shard), MissingPrerequisite before training."""
    from index_builder.memory import capped, processes_of
    from index_builder.shard import encode as run
    from index_builder.shard import shard_folder

    with alone(settings, build, f"encode {shard}") as found:
        if not isinstance(found, BuildPin):
            return EncodeReport(build, shard, 0, encoded=False)
        if not 0 <= shard < len(found.shards):
            raise NotFound(f"build {build} has no shard {shard}; it has 0 to {len(found.shards) - 1}")
        folder = build_folder(settings, build)
        target = shard_folder(folder, shard)
        there = target.is_dir()
        discard_unfinished(target)
        at_a_time = processes_of(settings.index)
        with capped(settings.index.build_memory_bytes // at_a_time):
            facts = run(folder, found, shard, source_of(settings, found), progress, at_a_time)
    return EncodeReport(build, shard, facts.coverage.indexed, encoded=not there)


def encode_all(settings: Settings, progress: Progress, build: str, engine: Engine = "processes") -> int:
    """Encode the shards that are not there yet, `index.processes` at a time or by Spark; how many that were.

    Raises as `encode`.
    """
    from index_builder.merge import missing_shards
    from index_builder.processes import run_shards

    found = require_build(settings, build)
    if not isinstance(found, BuildPin):
        return 0
    folder = build_folder(settings, build)
    shards = missing_shards(folder, found)
    if engine == "spark" and shards:
        _by_spark(settings, progress, build, shards)
    # Spark hears nothing of shards without a row.
    run_shards(partial(_items_of, settings, build), missing_shards(folder, found), settings.index, progress)
    return len(shards)


def _by_spark(settings: Settings, progress: Progress, build: str, shards: list[int]) -> None:
    from index_builder.shard import shard_folder
    from index_builder.train import require_trained
    from spark.encode_shards import encode_shards
    from spark.session import start

    with alone(settings, build, "encode by spark") as found:
        if isinstance(found, BuildPin):
            folder = build_folder(settings, build)
            require_trained(folder, found)
            for shard in shards:
                discard_unfinished(shard_folder(folder, shard))
            encode_shards(start(settings, "lookalike-encode"), settings, folder, found, shards, progress)


def _items_of(settings: Settings, build: str, shard: int) -> int:
    return encode(settings, LogProgress(), build, shard).items
