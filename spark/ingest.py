"""Snapshot → BRONZE → SILVER, with every refused row kept and its reason said.

Each of the three writes is idempotent, and the last one (REFUSED, written even when empty) marks the snapshot as done:
a job killed anywhere and run again gives the same tables. A row is whole: it goes up against every register of its item
(`contracts.item_state`), so a price that the stream set at a higher version stays while the title is taken. Rows that
SILVER has had already are left out before their pictures are read.

Snapshots may come in any order, and again, with the same rows in the end: versions decide, of equal versions the
earlier snapshot (`spark.earlier_rows`), and what is withdrawn follows from the newest complete snapshot
(`spark.withdrawals`). REFUSED alone has no row for a picture that was overtaken before anybody looked at it. A
snapshot that lost half its rows empties half the table here; `lookalike check silver` and the gate's bar on lost rows
stop that night, and the versions of the table before it are still there.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from lookalike.catalogue.snapshot import Snapshot, read_snapshot
from lookalike.contracts.item_state import DELETED, PICTURE_COLUMNS
from lookalike.contracts.product import RefusalReason
from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings
from lookalike.contracts.tables import BRONZE, REFUSED, SILVER
from lookalike.storage.delta import DeltaTables
from lookalike.storage.table_lock import only_writer
from spark import registers, tables
from spark.earlier_rows import replace_later
from spark.intake_rows import INSPECTED, PARSED, Arrival, inspector, parser
from spark.snapshot_order import bronze_transaction, in_bronze, order_of
from spark.tombstones import with_tombstones
from spark.withdrawals import Naming, settle

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

PICTURES_PER_TASK = 2_000


@dataclass(frozen=True)
class IngestReport:
    """What one snapshot did. `received` = `taken` + `unchanged` + all of `refused`."""

    snapshot_id: str
    received: int
    taken: int
    unchanged: int
    withdrawn: int
    refused: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    table_versions: dict[str, int] = field(default_factory=dict)


def is_done(settings: Settings, snapshot_dir: Path) -> bool:
    """Whether exactly this snapshot went all the way into the tables. Needs no JVM."""
    known = DeltaTables(settings.tables_root)
    snapshot = read_snapshot(snapshot_dir)
    return known.exists(SILVER.name) and known.has_transaction(REFUSED, _transaction(snapshot))


def ingest(session: "SparkSession", settings: Settings, snapshot_dir: Path, progress: Progress) -> IngestReport:
    """Take one snapshot in. Raises NotFound or CorruptArtifact when the folder is not a whole snapshot."""
    started = time.monotonic()
    snapshot = read_snapshot(snapshot_dir)
    work = f"ingest of snapshot {snapshot.snapshot_id}"
    with (
        only_writer(settings.locks_root, SILVER.name, work),
        progress.step("ingest", total=snapshot.items) as step,
    ):
        tables.ensure_tables(session, settings)
        if not in_bronze(DeltaTables(settings.tables_root), snapshot):
            _append_bronze(session, settings, snapshot)
        run = _Run(session, settings, snapshot)
        try:
            report = run.merge(step.advance)
        finally:
            run.release()
    versions = {
        table.name: DeltaTables(settings.tables_root).version(table.name) for table in (BRONZE, SILVER, REFUSED)
    }
    return IngestReport(
        snapshot.snapshot_id, snapshot.items, **report, seconds=time.monotonic() - started, table_versions=versions
    )


def _transaction(snapshot: Snapshot) -> str:
    return f"ingest:{snapshot.snapshot_id}"


def _append_bronze(session: "SparkSession", settings: Settings, snapshot: Snapshot) -> None:
    """Every row as received, as JSON, numbered by its place in the parts; once per snapshot."""
    from pyspark.sql import functions as F

    offsets, before = [], 0
    for part in snapshot.parts:
        offsets.append((part.name, before))
        before += pq.read_metadata(part).num_rows
    rows = session.read.parquet(*[str(part.absolute()) for part in snapshot.parts])
    numbered = rows.select(
        F.col("_metadata.file_name").alias("part"),
        F.col("_metadata.row_index").alias("row_index"),
        F.to_json(F.struct(*[F.col(f"`{name}`") for name in rows.columns])).alias("payload"),
    )
    places = session.createDataFrame(offsets, "part string, before bigint")
    bronze = numbered.join(F.broadcast(places), "part", "inner").select(
        F.lit(snapshot.snapshot_id).alias("snapshot_id"),
        (F.col("before") + F.col("row_index")).alias("row_number"),
        F.lit(snapshot.source).alias("source"),
        F.lit(datetime.fromisoformat(snapshot.created_at)).alias("received_at"),
        "payload",
    )
    tables.append_once(bronze, settings, BRONZE, bronze_transaction(snapshot))


class _Run:
    """The rows of one snapshot on their way from BRONZE to SILVER and REFUSED."""

    def __init__(self, session: "SparkSession", settings: Settings, snapshot: Snapshot) -> None:
        self.session, self.settings, self.snapshot = session, settings, snapshot
        self.order = order_of(DeltaTables(settings.tables_root), snapshot)
        received = datetime.fromisoformat(snapshot.created_at)
        self.arrival = Arrival(
            snapshot_id=snapshot.snapshot_id,
            source=snapshot.source,
            received_at_ms=int(received.timestamp() * 1000),
            pictures_root=str(settings.pictures_root),
            shards=settings.tables.shards,
            threads=settings.embed.decode_threads,
            limits=settings.intake,
        )
        self._kept: list[DataFrame] = []

    def merge(self, advance: Callable[[int], None]) -> dict[str, Any]:
        """Judge all rows, then write; returns the counts of the report."""
        from pyspark.sql import functions as F

        parsed = self._keep(self._parsed())
        newest = F.col("rank") == 1
        fresh = parsed.where(F.col("reason").isNull() & newest).join(self._current(), "item_id", "left")
        news, tied = self._is_news(), self._is_tied()
        changed = self._keep(fresh.where(news | tied).select("row_number", "payload", tied.alias("tied"), "known"))
        candidates = changed.count()
        advance(self.snapshot.items - candidates)
        inspected = self._keep(self._inspected(changed, candidates))
        good = inspected.where(F.col("reason").isNull())
        counts = {row["tied"]: row["count"] for row in good.groupBy("tied").count().collect()}
        advance(candidates)
        if counts.get(False):
            rows = with_tombstones(self.session, self.settings, good.where("NOT tied"))
            registers.merge_states(self.session, self.settings, rows, back=self.order.newest)
        if counts.get(True):
            replace_later(self.session, self.settings, good.where("tied"), self.order.later)
        taken = sum(counts.values())
        named = self._keep(self._ids(parsed))
        withdrawn = settle(
            self.session, self.settings, self.order, Naming(self.snapshot.source, named, self._ids_of_bronze)
        )
        refused = self._keep(self._refused(parsed, inspected))
        reasons = {row["reason"]: row["count"] for row in refused.groupBy("reason").count().collect()}
        tables.append_once(refused, self.settings, REFUSED, _transaction(self.snapshot))
        unchanged = self.snapshot.items - taken - sum(reasons.values())
        return {
            "taken": taken,
            "unchanged": unchanged,
            "withdrawn": withdrawn,
            "refused": dict(sorted(reasons.items())),
        }

    def release(self) -> None:
        """Let go of everything held in memory."""
        for rows in self._kept:
            rows.unpersist()

    def _keep(self, rows: "DataFrame") -> "DataFrame":
        """Python stages are read more than once below: run them once."""
        self._kept.append(rows.persist())
        return self._kept[-1]

    def _parsed(self) -> "DataFrame":
        """PARSED of all rows, with `rank` 1 for the row that wins its id: highest version, then first received."""
        from pyspark.sql import Window
        from pyspark.sql import functions as F

        bronze = tables.read_table(self.session, self.settings, BRONZE)
        parsed = self._parse(bronze.where(F.col("snapshot_id") == self.snapshot.snapshot_id))
        rivals = Window.partitionBy("item_id", F.col("reason").isNull()).orderBy(F.desc("version"), "row_number")
        return parsed.withColumn("rank", F.row_number().over(rivals)).withColumn(
            "winner", F.max("version").over(Window.partitionBy("item_id", F.col("reason").isNull()))
        )

    def _parse(self, bronze: "DataFrame") -> "DataFrame":
        from pyspark.sql.pandas.types import from_arrow_schema

        return bronze.select("row_number", "payload").mapInArrow(parser(self.arrival), from_arrow_schema(PARSED))

    @staticmethod
    def _ids(parsed: "DataFrame") -> "DataFrame":
        """Every item that is named, also by a row that was refused."""
        return parsed.where("item_id IS NOT NULL").select("item_id").distinct()

    def _ids_of_bronze(self, bronze: "DataFrame") -> "DataFrame":
        return self._ids(self._parse(bronze))

    def _current(self) -> "DataFrame":
        """What SILVER has of each item; `known`: its picture, for a row of the same version to take over."""
        silver = tables.read_table(self.session, self.settings, SILVER)
        return silver.alias("t").selectExpr(
            "item_id",
            f"{registers.base_version('t')} AS current_version",
            "snapshot_id AS current_snapshot",
            f"CASE WHEN deleted THEN {registers.version_of('t', DELETED)} END AS deleted_version",
            f"struct({', '.join(PICTURE_COLUMNS)}) AS known",
        )

    def _is_news(self) -> "Column":
        """A row that changes SILVER: a new item, a newer whole row, or a withdrawn item that is back."""
        from pyspark.sql import functions as F

        news = F.col("current_version").isNull() | (F.col("version") > F.col("current_version"))
        if self.order.newest:
            news = news | F.col("version").eqNullSafe(F.col("deleted_version"))
        return news

    def _is_tied(self) -> "Column":
        """A row of the version that SILVER has from a younger snapshot: this one came first, only later."""
        from pyspark.sql import functions as F

        same = F.col("version").eqNullSafe(F.col("current_version"))
        return ~self._is_news() & same & F.coalesce(F.col("current_snapshot").isin(*self.order.later), F.lit(False))

    def _inspected(self, changed: "DataFrame", candidates: int) -> "DataFrame":
        from pyspark.sql.pandas.types import from_arrow_schema

        tasks = max(self.session.sparkContext.defaultParallelism, -(-candidates // PICTURES_PER_TASK))
        return changed.repartition(tasks).mapInArrow(inspector(self.arrival), from_arrow_schema(INSPECTED))

    def _refused(self, parsed: "DataFrame", inspected: "DataFrame") -> "DataFrame":
        """All refusals of this snapshot in REFUSED's columns."""
        from pyspark.sql import functions as F

        columns = ("row_number", "item_id", "reason", "detail", "payload")
        good = F.col("reason").isNull()
        rivals = parsed.where(good & (F.col("rank") > 1)).withColumn(
            "detail",
            F.format_string(
                "item %s is more than once in this snapshot: version %d is kept, this row has version %d; "
                "send each item once",
                "item_id",
                "winner",
                "version",
            ),
        )
        duplicates = rivals.withColumn("reason", F.lit(RefusalReason.DUPLICATE_ID.value))
        rows = parsed.where(~good).select(*columns).unionByName(duplicates.select(*columns))
        return rows.unionByName(inspected.where(~good).select(*columns)).select(
            F.lit(self.snapshot.snapshot_id).alias("snapshot_id"),
            F.lit(self.snapshot.source).alias("source"),
            F.current_timestamp().alias("refused_at"),
            *columns,
        )
