"""Nightly fold: what the stream archived in CHANGES, joined into SILVER, its vectors into EMBEDDINGS, then FOLDS.

Of each item only the newest archived state counts, for a message holds the whole state. Every write is idempotent and
FOLDS comes last: a fold that was killed anywhere and is run again reads the same changes and gives the same tables.
A vector goes on only where SILVER shows its very picture; what has none the embedding job computes.
"""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings
from lookalike.contracts.tables import CHANGES, EMBEDDINGS, FOLDS, SILVER
from lookalike.releases.encoder_in_use import encoder_in_use
from lookalike.storage.delta import DeltaTables
from lookalike.storage.table_lock import only_writer
from spark import registers, tables
from spark.embed import encoder_version
from spark.embed_rows import EncoderSource, open_from_models
from spark.fold_rows import FOLDED, folder

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

BROADCAST_CHANGES = 500_000
"""Up to so many, every task is given the places of the last messages: the vectors of all others then stay unsorted."""


@dataclass(frozen=True)
class FoldReport:
    """What one fold did: archived `changes` of `items`, of which `taken` were news to SILVER.

    `vectors` were new to EMBEDDINGS, `vectors_left` not usable (not finite, not of unit length, or of a space whose
    encoder is not known here); the embedding job computes those. `next_offsets` by partition: all below is folded.
    """

    changes: int
    items: int
    taken: int
    vectors: int
    vectors_left: int
    next_offsets: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0
    table_versions: dict[str, int] = field(default_factory=dict)


def pending(settings: Settings) -> int:
    """Archived changes that are not folded yet; 0 where nothing was ever archived. Needs no JVM."""
    known = DeltaTables(settings.tables_root)
    new = new_offsets(known)
    if not new:
        return 0
    ranges = (
        f'"partition" = {each} AND "offset" >= {first} AND "offset" < {end}' for each, (first, end) in new.items()
    )
    return known.count(CHANGES, " OR ".join(f"({one})" for one in ranges))


def new_offsets(known: DeltaTables) -> dict[int, tuple[int, int]]:
    """By partition that has any: first offset that is not folded, and the one after the last that is archived."""
    if not known.exists(CHANGES.name):
        return {}
    folded = {}
    if known.exists(FOLDS.name):
        rows = known.query('SELECT "partition", max(next_offset) AS next FROM folds GROUP BY "partition"', FOLDS)
        folded = {row["partition"]: row["next"] for row in rows.to_pylist()}
    rows = known.query('SELECT "partition", max("offset") + 1 AS next FROM changes GROUP BY "partition"', CHANGES)
    archived = {row["partition"]: row["next"] for row in rows.to_pylist()}
    return {each: (folded.get(each, 0), end) for each, end in sorted(archived.items()) if end > folded.get(each, 0)}


def fold(
    session: "SparkSession", settings: Settings, progress: Progress, source: EncoderSource = open_from_models
) -> FoldReport:
    """Fold all that is archived now. `source` opens the encoder of a space that EMBEDDINGS does not have yet."""
    with only_writer(settings.locks_root, SILVER.name, "fold"):
        return _fold(session, settings, progress, source)


def _fold(session: "SparkSession", settings: Settings, progress: Progress, source: EncoderSource) -> FoldReport:
    started = time.monotonic()
    tables.ensure_tables(session, settings)
    known = DeltaTables(settings.tables_root)
    waiting, offsets = pending(settings), new_offsets(known)
    with progress.step("fold", total=waiting) as step:
        items, taken, vectors, left = _fold_range(session, settings, offsets, source) if offsets else (0, 0, 0, 0)
        versions = {table.name: known.version(table.name) for table in (SILVER, EMBEDDINGS)}
        ends = {partition: end for partition, (_, end) in offsets.items()}
        if ends:
            known.append(FOLDS, _fold_rows(ends, versions))
        step.advance(waiting)
    return FoldReport(waiting, items, taken, vectors, left, ends, time.monotonic() - started, versions)


def _fold_rows(ends: dict[int, int], versions: dict[str, int]) -> pa.Table:
    at = datetime.now(UTC)
    rows = [
        {"at": at, "partition": partition, "next_offset": end, "silver_version": versions[SILVER.name],
         "embeddings_version": versions[EMBEDDINGS.name]}
        for partition, end in ends.items()
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=FOLDS.schema)


def _fold_range(
    session: "SparkSession", settings: Settings, offsets: dict[int, tuple[int, int]], source: EncoderSource
) -> tuple[int, int, int, int]:
    """SILVER first, then EMBEDDINGS; the counts of the report: items, taken, vectors, vectors left."""
    from pyspark.sql import functions as F

    folded = _folded(session, settings, offsets).persist()
    try:
        counted = folded.agg(F.count("*").alias("items"), F.sum("bad_vectors").alias("bad")).collect()[0]
        news = registers.only_news(session, settings, folded.drop("vectors", "bad_vectors")).persist()
        taken = news.count()
        registers.merge_states(session, settings, news)
        news.unpersist()
        vectors, nameless = _merge_vectors(session, settings, folded, source)
    finally:
        folded.unpersist()
    return counted["items"], taken, vectors, (counted["bad"] or 0) + nameless


def _folded(session: "SparkSession", settings: Settings, offsets: dict[int, tuple[int, int]]) -> "DataFrame":
    """FOLDED: one row per item, from its last message; an item of several partitions is joined over them."""
    from pyspark.sql import functions as F
    from pyspark.sql.pandas.types import from_arrow_schema

    changes = tables.read_table(session, settings, CHANGES)
    place = ["partition", "item_id", "offset"]
    ranges = (
        f"(`partition` = {each} AND `offset` >= {first} AND `offset` < {end})" for each, (first, end) in offsets.items()
    )
    new = changes.where(" OR ".join(ranges))
    last = new.groupBy("partition", "item_id").agg(F.max("offset").alias("offset"))
    if sum(end - first for first, end in offsets.values()) <= BROADCAST_CHANGES:
        last = F.broadcast(last)
    messages = F.sort_array(F.collect_list(F.struct("partition", "offset", "state", "vectors")))
    by_item = new.join(last, place, "inner").groupBy("item_id").agg(messages.alias("messages"))
    return by_item.mapInArrow(folder(settings.tables.shards), from_arrow_schema(FOLDED))


def _merge_vectors(
    session: "SparkSession", settings: Settings, folded: "DataFrame", source: EncoderSource
) -> tuple[int, int]:
    """One MERGE per space, of what SILVER shows now and EMBEDDINGS lacks; merged vectors, and those without a name."""
    from pyspark.sql import functions as F

    each = folded.select("shard", "item_id", "content_hash", F.explode("vectors").alias("given"))
    given = each.select("shard", "item_id", "content_hash", "given.*")
    spaces = sorted(row["space"] for row in given.select("space").distinct().collect())
    if not spaces:
        return 0, 0
    live = tables.read_table(session, settings, SILVER).where(~F.col("deleted"))
    shown = live.select("shard", "item_id", "content_hash", F.col("version").alias("item_version"))
    there = tables.read_table(session, settings, EMBEDDINGS).where(F.col("space").isin(spaces))
    current = given.join(shown, ["shard", "item_id", "content_hash"], "inner")
    new = current.join(
        there.select("item_id", "space", "content_hash"), ["item_id", "space", "content_hash"], "left_anti"
    )
    new = new.persist()
    counts = {row["space"]: row["count"] for row in new.groupBy("space").count().collect()}
    names = {space: _encoder_version(settings, space, source) for space in counts}
    for space, name in names.items():
        if name is not None:
            rows = new.where(F.col("space") == space).withColumn("encoder_version", F.lit(name))
            tables.merge(session, settings, EMBEDDINGS, rows, f"t.space = '{space}'")
    new.unpersist()
    nameless = sum(count for space, count in counts.items() if names[space] is None)
    return sum(counts.values()) - nameless, nameless


def _encoder_version(settings: Settings, space: str, source: EncoderSource) -> str | None:
    """How EMBEDDINGS names the encoder of the space: as it does already, or by the encoder itself; None if unknown."""
    known = DeltaTables(settings.tables_root)
    said = known.query(f"SELECT encoder_version FROM embeddings WHERE space = '{space}' LIMIT 1", EMBEDDINGS)
    if said.num_rows:
        return str(said["encoder_version"][0].as_py())
    for path in (encoder_in_use(settings), str(settings.encoders_root / space)):
        try:
            found = source(path, "cpu", 1)[0].space
        except LookalikeError:
            continue
        if found.fingerprint == space:
            return encoder_version(found)
    return None
