"""SILVER → EMBEDDINGS: a vector for every live item in one space, computed once per picture.

Work is keyed by (content hash, space): what is there is left, what another item's equal picture has is copied, the
rest is embedded in chunks, each chunk one MERGE. Chunks are ranges of the content hash, so a job that was killed and
is run again goes on with the same chunks; no column depends on the clock, and the table comes out the same.

Vectors of withdrawn items stay: readers join EMBEDDINGS with the live rows of SILVER, and an item that comes back with
the same picture costs nothing. A picture that vanished or changed since ingest goes to REFUSED and never stops the job.
Such an item is not `pending`, but every run that starts tries it again.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import EMBEDDINGS, REFUSED, SILVER
from lookalike.releases.encoder_in_use import encoder_in_use, with_encoder
from lookalike.storage.delta import DeltaTables
from spark import tables
from spark.embed_plan import PREFIX_DIGITS, pack
from spark.embed_refusals import STILL_REFUSED, refuse
from spark.embed_rows import EMBEDDED, EmbedJob, EncoderSource, embedder, open_checked, open_from_models
from spark.session import gpu_profile

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

PICTURES_PER_TASK = 1_000
LEAST_PER_TASK, PACED_TASK_SECONDS = 32, 20
"""A job with a limit has shorter tasks, for progress is told as they end."""
PATHS_PER_PICTURE = 4
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class EmbedReport:
    """What one run did, counted in items. `pictures` were encoded in `encoding_seconds`, the stages that read, decode
    and encode; `seconds` is the whole job with its plan and its MERGEs.
    """

    space: str
    embedded: int
    reused: int
    unchanged: int
    refused: int
    pictures: int
    encoding_seconds: float
    seconds: float
    table_versions: dict[str, int] = field(default_factory=dict)

    @property
    def pictures_per_second(self) -> float:
        """Encoded pictures per second of the stages that encode."""
        return self.pictures / self.encoding_seconds if self.pictures else 0.0


def pending(settings: Settings, space: EmbeddingSpace) -> int:
    """Live items without a current vector in `space`, but for those whose picture was refused. Needs no JVM.

    Raises NotFound when nothing was ever ingested.
    """
    sql = f"""
        SELECT count(*) AS n FROM silver AS s
        LEFT ANTI JOIN (SELECT item_id, content_hash FROM embeddings WHERE space = '{space.fingerprint}') AS e
            ON e.item_id = s.item_id AND e.content_hash = s.content_hash
        LEFT ANTI JOIN (SELECT item_id, snapshot_id, payload FROM refused WHERE reason LIKE 'picture_%') AS r
            ON r.item_id = s.item_id AND r.snapshot_id = s.snapshot_id AND ({STILL_REFUSED})
        WHERE NOT s.deleted"""
    return int(DeltaTables(settings.tables_root).query(sql, SILVER, EMBEDDINGS, REFUSED)["n"][0].as_py())


def encoder_version(space: EmbeddingSpace) -> str:
    """How EMBEDDINGS names the encoder: its name and the first digits of its weights' hash."""
    return f"{space.encoder}@{space.weights_sha256[:12]}"


def embed(
    session: "SparkSession",
    settings: Settings,
    progress: Progress,
    source: EncoderSource = open_from_models,
    pictures_per_second: float = 0.0,
) -> EmbedReport:
    """Embed what the encoder in use, opened by `source`, has not embedded yet, at most so fast (0: as fast as it goes).

    Raises SpaceMismatch when it does not reproduce its probe on this machine.
    """
    started = time.monotonic()
    path = encoder_in_use(settings)
    space = open_checked(source, path, "cpu", 1).space
    settings = with_encoder(settings, path)  # one for the whole run, also when `live` moves meanwhile
    tables.ensure_tables(session, settings)
    run = _Run(session, settings, space, source, pictures_per_second)
    try:
        counts = run.all_chunks(progress)
    finally:
        run.due.unpersist()
    known = DeltaTables(settings.tables_root)
    versions = {table.name: known.version(table.name) for table in (SILVER, EMBEDDINGS)}
    return EmbedReport(space.fingerprint, **counts, seconds=time.monotonic() - started, table_versions=versions)


class _Run:
    """One run over one space: the plan, then its chunks."""

    def __init__(
        self, session: "SparkSession", settings: Settings, space: EmbeddingSpace, source: EncoderSource, rate: float
    ) -> None:
        self.session, self.settings, self.space = session, settings, space
        self.rate_per_core = rate / session.sparkContext.defaultParallelism
        self.job = EmbedJob(
            source=source,
            encoder=settings.encoder,
            fingerprint=space.fingerprint,
            pictures_root=str(settings.pictures_root),
            limits=settings.intake,
            batch_size=settings.embed.batch_size,
            decode_threads=settings.embed.decode_threads,
            pictures_per_second=self.rate_per_core,
        )
        self.due = self._due().persist()
        self.encoding_seconds = 0.0

    def all_chunks(self, progress: Progress) -> dict[str, Any]:
        """Copy what is known, embed the rest; the counts of the report."""
        reused, todo, pictures = self._plan()
        unchanged = self._live().count() - reused - todo
        refused = 0
        with progress.step("embed", total=sum(pictures.values())) as step:
            if reused:
                self._merge(self._known_vectors())
            for first, last, count in pack(pictures, self.settings.embed.chunk_items):
                refused += self._chunk(first, last, count, step.advance)
        return {
            "embedded": todo - refused,
            "reused": reused,
            "unchanged": unchanged,
            "refused": refused,
            "pictures": sum(pictures.values()),
            "encoding_seconds": self.encoding_seconds,
        }

    def _live(self) -> "DataFrame":
        from pyspark.sql import functions as F

        silver = tables.read_table(self.session, self.settings, SILVER)
        base = F.coalesce("base_version", "version").alias("base_version")
        columns = ("item_id", "version", base, "content_hash", "image_path", "snapshot_id")
        return silver.where(~F.col("deleted")).select(*columns)

    def _vectors(self) -> "DataFrame":
        from pyspark.sql import functions as F

        return tables.read_table(self.session, self.settings, EMBEDDINGS).where(
            F.col("space") == self.space.fingerprint
        )

    def _due(self) -> "DataFrame":
        """Live items without a current vector; `known` says whether another item's vector can be copied."""
        from pyspark.sql import functions as F

        had = self._vectors().select("item_id", "content_hash")
        known = self._vectors().select("content_hash", F.lit(True).alias("known")).distinct()
        due = self._live().join(had, ["item_id", "content_hash"], "left_anti")
        return due.join(known, "content_hash", "left").select(
            *due.columns,
            F.coalesce("known", F.lit(False)).alias("known"),
            F.substring("content_hash", 1, PREFIX_DIGITS).alias("prefix"),
        )

    def _plan(self) -> tuple[int, int, dict[str, int]]:
        """Items to copy, items to embed, and pictures to embed by prefix of their hash (at most 65,536 rows)."""
        from pyspark.sql import functions as F

        counted = self.due.groupBy("prefix", "known").agg(
            F.count("*").alias("items"), F.countDistinct("content_hash").alias("pictures")
        )
        rows = counted.collect()
        return (
            sum(row["items"] for row in rows if row["known"]),
            sum(row["items"] for row in rows if not row["known"]),
            {row["prefix"]: row["pictures"] for row in rows if not row["known"]},
        )

    def _known_vectors(self) -> "DataFrame":
        from pyspark.sql import functions as F

        vectors = self._vectors().groupBy("content_hash").agg(
            F.min_by("vector", "item_id").alias("vector"), F.min_by("l2_norm", "item_id").alias("l2_norm")
        )  # fmt: skip
        return self.due.where(F.col("known")).join(vectors, "content_hash", "inner")

    def _chunk(self, first: str, last: str, count: int, advance: Callable[[int], None]) -> int:
        """Embed the pictures of one range and MERGE them; returns the number of refused items."""
        from pyspark.sql import functions as F
        from pyspark.sql.pandas.types import from_arrow_schema

        items = self.due.where(~F.col("known") & F.col("prefix").between(first, last))
        paths = F.slice(F.sort_array(F.collect_set("image_path")), 1, PATHS_PER_PICTURE)
        pictures = items.groupBy("content_hash").agg(paths.alias("image_paths"))
        spread = pictures.repartition(self._tasks(count), "content_hash").sortWithinPartitions("content_hash")
        started = time.monotonic()
        with _following(self.session, advance) as tell:
            embedded = spread.mapInArrow(
                embedder(self.job, tell), from_arrow_schema(EMBEDDED), profile=gpu_profile(self.settings)
            ).persist()
            refused = embedded.where(F.col("reason").isNotNull()).count()
        self.encoding_seconds += time.monotonic() - started
        try:
            if refused < count:
                self._merge(items.join(embedded.where(F.col("reason").isNull()), "content_hash", "inner"))
            failed = embedded.where(F.col("reason").isNotNull()).select("content_hash", "reason", "detail")
            lost = items.join(failed, "content_hash", "inner")
            return refuse(self.session, self.settings, lost, self.space.fingerprint) if refused else 0
        finally:
            embedded.unpersist()

    def _tasks(self, pictures: int) -> int:
        """A whole number of waves over the cores, each task long enough to hide its start."""
        cores = self.session.sparkContext.defaultParallelism
        each = PICTURES_PER_TASK
        if self.rate_per_core:
            each = min(each, max(LEAST_PER_TASK, round(self.rate_per_core * PACED_TASK_SECONDS)))
        return cores * max(1, round(pictures / (each * cores)))

    def _merge(self, rows: "DataFrame") -> None:
        """Rows with item_id, content_hash, version, vector, l2_norm into this space's partition."""
        from pyspark.sql import functions as F

        whole = rows.select(
            "item_id",
            F.lit(self.space.fingerprint).alias("space"),
            "content_hash",
            F.col("version").alias("item_version"),
            F.lit(encoder_version(self.space)).alias("encoder_version"),
            "vector",
            "l2_norm",
        )
        pinned = f"t.space = '{self.space.fingerprint}'"
        tables.merge(self.session, self.settings, EMBEDDINGS, whole, pinned)


@contextmanager
def _following(session: "SparkSession", advance: Callable[[int], None]) -> Iterator[Callable[[int], None]]:
    """Yield what workers call with finished rows; while the block runs, `advance` hears of it as tasks end."""
    done = session.sparkContext.accumulator(0)
    told, over = 0, threading.Event()

    def hear() -> None:
        nonlocal told
        now = done.value
        if now > told:
            advance(now - told)
            told = now

    def follow() -> None:
        while not over.wait(POLL_SECONDS):
            hear()

    follower = threading.Thread(target=follow, name="embed-progress", daemon=True)
    follower.start()
    try:
        yield done.add
    finally:
        over.set()
        follower.join()
        hear()
