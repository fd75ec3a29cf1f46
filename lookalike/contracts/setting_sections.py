"""Sections of the settings, one per part of the system, each key with its default: written here and nowhere else."""

import ipaddress
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class IntakeSettings(_Section):
    """Limits on received rows and pictures, checked before a picture is decoded."""

    max_picture_bytes: int = Field(default=20 * 2**20, ge=1)
    max_picture_pixels: int = Field(default=50_000_000, ge=1)
    picture_formats: tuple[str, ...] = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
    max_version_lead_seconds: int = Field(default=86_400, ge=0, description="a version is at most now + this, in ms")
    fetch_timeout_seconds: float = Field(
        default=20.0, gt=0, description="of one picture, from name look-up to last byte"
    )
    fetch_tries: int = Field(default=3, ge=1, description="of a batch job, when a fetch fails in a way that may pass")
    max_redirects: int = Field(default=3, ge=0)
    private_networks: tuple[str, ...] = Field(
        default=(), description="networks such as 10.0.0.0/8 that pictures may be fetched from; else public ones only"
    )
    max_event_bytes: int = Field(default=2**20, ge=1_024, description="of one change as received")

    @field_validator("private_networks")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ipaddress.ip_network(network, strict=False)
        return value


class TableSettings(_Section):
    """Where the Delta tables lie and how they are partitioned."""

    root: str | None = Field(default=None, description="URI of the tables; default: HOME/tables")
    shards: int = Field(default=4, ge=1, description="partitions of silver; fixed for the life of the table")


class SparkSettings(_Section):
    """The Spark session. `local[*]` on one machine; on a cluster the submitter's own configuration wins."""

    master: str = "local[*]"
    driver_memory: str = "2g"
    shuffle_partitions: int = Field(default=2, ge=1)
    gpus_per_task: float = Field(default=0.0, ge=0, description="more than 0 asks Spark's scheduler for GPUs")
    conf: dict[str, str] = Field(default_factory=dict, description="any further Spark configuration")


class EncoderSettings(_Section):
    """Which encoder embeds the catalogue: a folder, a hub id (`hf-hub:…`), or the packaged `lookalike-mini`."""

    path: str | None = Field(
        default=None, min_length=1, description="none: that of the live release, before the first the packaged one"
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(default=0, ge=0, description="torch threads per process; 0: the library's choice")


class EmbedSettings(_Section):
    """The embedding job."""

    batch_size: int = Field(default=0, ge=0, description="pictures per forward pass; 0: by device")
    decode_threads: int = Field(default=2, ge=1, description="threads per worker that fetch and decode pictures")
    chunk_items: int = Field(default=100_000, ge=1, description="items merged at once: what a kill can cost")


class IndexSettings(_Section):
    """What the index may cost; the recipe follows from it unless it is named."""

    recipe: str = Field(default="auto", description="auto, or a name in index_builder/recipes")
    memory_bytes: int = Field(default=8 * 2**30, ge=2**20)
    latency_ms: float = Field(default=20.0, gt=0)
    recall: float = Field(
        default=0.98, gt=0, le=1, description="recall@10 that search parameters are tuned for, of pictures and of words"
    )
    shard_items: int = Field(default=500_000, ge=1, description="items of a shard at most; fewer where memory is short")
    processes: int = Field(default=1, ge=0, description="shards encoded at a time; 0: as many as there are cores")
    build_memory_bytes: int = Field(
        default=8 * 2**30, ge=2**20, description="cap of a whole build, all its processes together"
    )
    device: Literal["auto", "cpu", "gpu"] = Field(
        default="auto",
        description="that trains lists, finds the list of each vector and makes graphs; gpu: NVIDIA's, extra index-gpu",
    )
    max_drift: float = Field(
        default=0.05, ge=0, description="trained lists are used again while vectors lie at most this much farther off"
    )
    max_imbalance_growth: float = Field(default=0.25, ge=0, description="... and fill the lists this much less evenly")


class GateSettings(_Section):
    """Bars of the gate. All are demanded; lowering one is a decision that the ledger keeps."""

    min_recall_at_10: float = Field(default=0.95, ge=0, le=1)
    min_filtered_recall_at_10: float = Field(default=0.95, ge=0, le=1, description="under each filter, of each kind")
    filter_shares: tuple[float, ...] = Field(
        default=(0.5, 0.1, 0.01, 0.001, 0.0001), min_length=1, description="of the items, that the filters let pass"
    )
    max_label_drop: float = Field(default=0.01, ge=0, le=1, description="allowed fall of a label metric against live")
    max_row_loss: float = Field(default=0.05, ge=0, le=1, description="allowed loss of rows against live")
    max_latency_ms: float = Field(default=100.0, gt=0, description="p99 of a single query on this machine")
    max_bytes_per_item: int = Field(default=8_192, ge=1)
    sample_queries: int = Field(default=1_000, ge=10)
    seed: int = 7


class LogSettings(_Section):
    """The event log: an embedded file for one machine, or Kafka."""

    kind: Literal["sqlite", "kafka"] = "sqlite"
    partitions: int = Field(default=2, ge=1, description="of every topic; fixed for the life of the log")
    retention_hours: float = Field(default=168.0, gt=0, description="how long messages stay; servers replay from here")
    brokers: str = Field(default="127.0.0.1:9092", description="Kafka: bootstrap servers, host:port, by comma")
    topic_prefix: str = Field(default="lookalike.", description="Kafka: put before every topic and group")
    replication: int = Field(default=1, ge=1, description="Kafka: replicas of topics that are made")
    conf: dict[str, str] = Field(default_factory=dict, description="Kafka: any further librdkafka configuration")


class StreamSettings(_Section):
    """The streaming job. What waits for company (`linger_seconds`) waits at most that long."""

    linger_seconds: float = Field(default=0.03, gt=0, description="records of one bundle are gathered this long")
    bundle_records: int = Field(default=256, ge=1)
    batch_size: int = Field(default=32, ge=1, description="pictures per forward pass")
    encoder_threads: int = Field(default=1, ge=1)
    fetch_threads: int = Field(default=8, ge=1, description="pictures fetched at a time; as many again for slow ones")
    first_fetch_seconds: float = Field(default=0.5, gt=0, description="a slower picture is parked and fetched aside")
    retry_seconds: float = Field(default=1.0, gt=0, description="pause between two tries of a parked change")
    retry_attempts: int = Field(default=5, ge=1, description="then it is refused, and can be replayed")
    archive_seconds: float = Field(default=5.0, gt=0, description="changes are committed to Delta this often")
    archive_records: int = Field(default=5_000, ge=1, description="... or when so many wait")
    worker_memory_bytes: int = Field(default=2 * 2**30, ge=2**28, description="a worker above this is replaced")
    recycle_minutes: float = Field(default=60.0, gt=0, description="a worker of this age is replaced")
    nice: int = Field(default=19, ge=0, le=19, description="searches come first where cores are short")


class RegistrySettings(_Section):
    """MLflow. Default: SQLite and local files below HOME."""

    tracking_uri: str | None = None
    index_model: str = "lookalike-index"
    encoder_model: str = "lookalike-encoder"


class ServingSettings(_Section):
    """The HTTP server."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65_535)
    poll_seconds: float = Field(default=1.0, gt=0, description="how often the live alias is read")
    threads: int = Field(default=0, ge=0, description="search threads; 0: one per core")
    max_upload_bytes: int = Field(default=20 * 2**20, ge=1)
    admin_key_hashes: tuple[str, ...] = Field(
        default=(), description="sha256 (hex) of the keys that may send changes; `lookalike keys new` makes one"
    )
    overlay_poll_seconds: float = Field(default=0.02, gt=0, description="how often the update log is looked at")
    overlay_bytes: int = Field(default=512 * 2**20, ge=2**20, description="changes in memory; above, a release is due")
    token_wait_seconds: float = Field(default=2.0, gt=0, description="longest wait of a search with min_token")
    report_seconds: float = Field(default=5.0, gt=0, description="how often a server says what it serves")


class ReleaseSettings(_Section):
    """How a candidate becomes live, and how that is verified."""

    approval: Literal["automatic", "person"] = Field(
        default="automatic", description="person: `promote` demands an approval made after the verdict"
    )
    canary_queries: int = Field(default=20, ge=1, description="items, and as many titles, asked of each server")
    verify_seconds: float = Field(default=120.0, ge=0, description="that servers may take to serve what is live")
    compare_queries: int = Field(default=200, ge=1, description="of which `compare` shows those that changed most")


class MaintenanceSettings(_Section):
    """Upkeep of tables, releases and reports. What a release or a build pins stays, whatever its age."""

    retention_hours: int = Field(
        default=168, ge=0, description="old files, log and unfinished builds stay this long: longer than any job runs"
    )
    file_bytes: int = Field(default=128 * 2**20, ge=2**10, description="smaller table files are put together")
    keep_releases: int = Field(default=5, ge=0, description="newest releases that stay, beside those with an alias")
    report_days: int = Field(default=90, ge=0, description="reports of releases that are gone stay this long")


class HealthSettings(_Section):
    """Above any of these the stream is not well: `lookalike stream health` says so and exits 1."""

    lag_records: int = Field(default=50_000, ge=0, description="that a pipeline has not dealt with")
    lag_seconds: float = Field(default=60.0, gt=0, description="since the oldest of them was appended")
    freshness_seconds: float = Field(default=5.0, gt=0, description="p99 from a change's event time to visible")
    worker_minutes: float = Field(default=120.0, gt=0, description="age of a worker that should have been replaced")
    worker_memory_bytes: int = Field(default=3 * 2**30, ge=2**28, description="of one worker")


class FeedbackSettings(_Section):
    """What is kept of searches for the online report: which items they showed, never words, pictures or persons."""

    impressions: bool = Field(default=False, description="whether a server notes what its searches showed")
    sample_rate: float = Field(default=1.0, gt=0, le=1, description="of searches; clicks on the others are not kept")
    queue: int = Field(default=10_000, ge=1, description="impressions that wait for the log at most; more are dropped")


class NotifySettings(_Section):
    """Whom Airflow tells when a task failed or a run is late. It is always in the log."""

    kind: Literal["log", "webhook"] = "log"
    url: str | None = Field(
        default=None, pattern=r"^https?://", description="webhook: gets a POST of one JSON document"
    )

    @model_validator(mode="after")
    def _has_a_url(self) -> Self:
        if self.kind == "webhook" and self.url is None:
            raise ValueError("notify.kind = webhook needs notify.url, e.g. https://chat.example/hooks/…")
        return self
