"""Shards of a build, encoded by the executors of a cluster: one task per shard, the same code as on one machine.

The rows of the pinned table versions are parted by shard and sorted by id; a task streams them into `encode`, which
writes the shard's folder whole or not at all. The build's folder must lie where the driver and all executors see it
under the same path. Killed and run again, only the shards that are missing are encoded.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from index_builder.delta_source import LIVE_ITEMS
from index_builder.pin import Pin
from index_builder.stream_source import IS_VECTOR, STREAM_SCHEMA, StreamSource
from lookalike.contracts.progress import LogProgress, Progress
from lookalike.contracts.settings import Settings
from lookalike.contracts.tables import EMBEDDINGS, SILVER, TableContract
from lookalike.storage.delta import DeltaTables

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

PLACE = "place"
DONE = pa.schema([pa.field("shard", pa.int64()), pa.field("items", pa.int64())])


@dataclass(frozen=True)
class EncodeJob:
    """What a task needs to know: `shards[i]` is the shard of partition i."""

    work: Path
    pin: Pin
    shards: tuple[int, ...]


def encode_shards(
    session: "SparkSession", settings: Settings, work: Path, pin: Pin, shards: Sequence[int], progress: Progress
) -> int:
    """Encode `shards` of the trained build in `work`; returns how many items they have.

    A shard without any row is not encoded: no task hears of it. Raises Spark's error that names what `encode` raised.
    """
    from pyspark.sql.pandas.types import from_arrow_schema

    if not shards:
        return 0
    job = EncodeJob(work.absolute(), pin, tuple(shards))
    rows = _rows(session, settings, pin)
    parted = rows.withColumn(PLACE, _place(pin, job.shards)).where(f"{PLACE} IS NOT NULL")
    parted = parted.repartitionById(len(shards), PLACE).sortWithinPartitions("item_id")
    with progress.step(f"encode {len(shards)} shards") as step:
        done = parted.mapInArrow(encoder(job), from_arrow_schema(DONE)).collect()
        items = sum(int(row["items"]) for row in done)
        step.advance(items)
    return items


def encoder(job: EncodeJob) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """`encode_partition` for one job, as mapInArrow takes it."""
    return partial(encode_partition, job)


def encode_partition(job: EncodeJob, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Write the shard whose rows these are."""
    from pyspark import TaskContext

    from index_builder.parts import use_threads
    from index_builder.shard import encode

    task = TaskContext.get()
    use_threads(task.cpus() if task is not None else 1)
    rows = iter(batches)
    first = next((batch for batch in rows if batch.num_rows), None)
    if first is None:
        return
    number = job.shards[first[PLACE][0].as_py()]
    source = StreamSource(job.pin.space, map(_typed, chain([first], rows)))
    facts = encode(job.work, job.pin, number, source, LogProgress())
    yield pa.record_batch([[number], [facts.coverage.indexed]], schema=DONE)


def _typed(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.select(STREAM_SCHEMA.names).cast(STREAM_SCHEMA)


def _rows(session: "SparkSession", settings: Settings, pin: Pin) -> "DataFrame":
    """Live items and the vectors of the space, in the columns of STREAM_SCHEMA."""
    from pyspark.sql import functions as F

    items = _pinned(session, settings, pin, SILVER).where(LIVE_ITEMS)
    vectors = _pinned(session, settings, pin, EMBEDDINGS).where(F.col("space") == pin.space.fingerprint)
    vectors = vectors.select("item_id", "content_hash", F.lit(True).alias(IS_VECTOR), "space", "vector")
    there = [name for name in STREAM_SCHEMA.names if name in items.columns]
    return items.select(*there, F.lit(False).alias(IS_VECTOR)).unionByName(vectors, allowMissingColumns=True)


def _pinned(session: "SparkSession", settings: Settings, pin: Pin, table: TableContract) -> "DataFrame":
    reader = session.read.format("delta").option("versionAsOf", pin.table_versions[table.name])
    return reader.load(DeltaTables(settings.tables_root).uri(table.name))


def _place(pin: Pin, shards: tuple[int, ...]) -> "Column":
    """Partition of an id: that of its shard; null where the shard is not asked for."""
    from pyspark.sql import functions as F

    starts = F.array(*(F.lit(shard.start) for shard in pin.shards if shard.start is not None))
    number = F.size(F.filter(starts, lambda start: start <= F.col("item_id"))) if len(pin.shards) > 1 else F.lit(0)
    places = F.create_map(*(F.lit(each) for place, shard in enumerate(shards) for each in (shard, place)))
    return places[number]
