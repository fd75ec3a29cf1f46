"""Recorded changes by batch: what the stream would make of them, written to SILVER and REFUSED without the stream.

The file is JSON Lines, one record of the topic `catalogue-changes` per line, in any order of lines:

    {"partition": 0, "offset": 17, "appended_ms": 1795428000000, "value": "{\"schema\":1,...}"}

`value` is the change as `lookalike.catalogue.refused_rows.payload_text` writes it, `appended_ms` when it was received.
REFUSED is written first, SILVER last and with the file's transaction: a job that was killed finds the same SILVER and
judges alike.
"""

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookalike.contracts.errors import LookalikeError, NotFound
from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings
from lookalike.contracts.tables import REFUSED, SILVER
from lookalike.storage.delta import DeltaTables
from lookalike.storage.table_lock import only_writer
from spark import registers, tables
from spark.change_rows import RECORDED, SETTLED, Replay, parser, settler

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

FIELDS = {"partition": int, "offset": int, "appended_ms": int, "value": str}
SHOWN = 80


class BadRecords(LookalikeError):
    """A file of recorded changes that is not in its format."""


@dataclass(frozen=True)
class ChangesReport:
    """What one file did. `received` = `taken` + `repeated` + `overtaken` + all of `refused`, counted in changes;
    `items` is how many items they changed.
    """

    records: str
    received: int
    taken: int
    repeated: int
    overtaken: int
    items: int
    refused: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    table_versions: dict[str, int] = field(default_factory=dict)


def is_done(settings: Settings, records: Path) -> bool:
    """Whether exactly this file changed the tables already. Needs no JVM. Raises NotFound, BadRecords."""
    _, transaction = read_records(records)
    return DeltaTables(settings.tables_root).has_transaction(SILVER, transaction)


def read_records(records: Path) -> tuple[int, str]:
    """Number of records and the transaction that names the file by its content. Raises NotFound, BadRecords."""
    if not records.is_file():
        raise NotFound(f"there is no file of recorded changes at {records}")
    digest, count = hashlib.sha256(), 0
    with records.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            digest.update(line)
            if line.strip():
                _require_record(records, number, line)
                count += 1
    return count, f"changes:{digest.hexdigest()}"


def _require_record(records: Path, number: int, line: bytes) -> None:
    try:
        record = json.loads(line)
        good = record.keys() == FIELDS.keys() and all(type(record[name]) is kind for name, kind in FIELDS.items())
    except (ValueError, AttributeError, RecursionError):
        good = False
    if not good:
        raise BadRecords(
            f"{records}, line {number} is not a recorded change: {line[:SHOWN]!r}. Needed is a JSON object with the "
            "whole numbers partition, offset and appended_ms and the text value, and nothing else"
        )


def ingest_changes(session: "SparkSession", settings: Settings, records: Path, progress: Progress) -> ChangesReport:
    """Apply the recorded changes of a file. Vectors come by `spark.embed` afterwards. Raises NotFound, BadRecords."""
    started = time.monotonic()
    received, transaction = read_records(records)
    with (
        only_writer(settings.locks_root, SILVER.name, f"ingest of {records.name}"),
        progress.step("ingest changes", total=received) as step,
    ):
        tables.ensure_tables(session, settings)
        counted = _ingest(session, settings, records, transaction)
        step.advance(received)
    known = DeltaTables(settings.tables_root)
    versions = {table.name: known.version(table.name) for table in (SILVER, REFUSED)}
    return ChangesReport(records.name, received, **counted, seconds=time.monotonic() - started, table_versions=versions)


def _ingest(session: "SparkSession", settings: Settings, records: Path, transaction: str) -> dict[str, Any]:
    from pyspark.sql import functions as F
    from pyspark.sql.pandas.types import from_arrow_schema

    replay = Replay(
        pictures_root=str(settings.pictures_root),
        partitions=settings.log.partitions,
        shards=settings.tables.shards,
        threads=settings.embed.decode_threads,
        limits=settings.intake,
    )
    lines = session.read.text(str(records.absolute()))
    recorded = lines.mapInArrow(parser(replay), from_arrow_schema(RECORDED)).persist()
    by_item = _with_silver(session, settings, recorded.where(F.col("item_id").isNotNull()))
    settled = by_item.mapInArrow(settler(replay), from_arrow_schema(SETTLED)).persist()
    try:
        sums = settled.agg(
            *[F.coalesce(F.sum(name), F.lit(0)).alias(name) for name in ("taken", "repeated", "overtaken")]
        )
        counts = sums.collect()[0].asDict()
        reasons = _append_refused(session, settings, recorded, settled, transaction)
        news = settled.where("changed").drop("changed", "taken", "repeated", "overtaken", "refusals")
        items = news.count()
        registers.merge_states(session, settings, news, transaction=transaction)
    finally:
        settled.unpersist()
        recorded.unpersist()
    return {**counts, "items": items, "refused": reasons}


def _with_silver(session: "SparkSession", settings: Settings, recorded: "DataFrame") -> "DataFrame":
    """One row per item: its records, and its row of SILVER or null."""
    from pyspark.sql import functions as F

    record = F.struct("partition", "offset", "appended_ms", "value")
    by_item = recorded.groupBy("item_id").agg(F.collect_list(record).alias("records"))
    silver = tables.read_table(session, settings, SILVER)
    row = F.struct(*[F.col(name) for name in SILVER.schema.names]).alias("silver")
    return by_item.join(silver.select("item_id", row), "item_id", "left").select("item_id", "records", "silver")


def _append_refused(
    session: "SparkSession", settings: Settings, recorded: "DataFrame", settled: "DataFrame", transaction: str
) -> dict[str, int]:
    """Append what REFUSED lacks, once per file; changes by reason."""
    from pyspark.sql import functions as F

    both = recorded.select("refusals").unionByName(settled.select("refusals"))
    refused = both.select(F.explode("refusals").alias("one")).select("one.*").persist()
    reasons = {row["reason"]: row["count"] for row in refused.groupBy("reason").count().collect()}
    if reasons:
        there = tables.read_table(session, settings, REFUSED).select(*REFUSED.key)
        new = refused.join(there, list(REFUSED.key), "left_anti")
        tables.append_once(new, settings, REFUSED, transaction)
    refused.unpersist()
    return dict(sorted(reasons.items()))
