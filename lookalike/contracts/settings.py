"""Settings: one frozen object, read once at the entry point and then handed on as explicit arguments.

Sources, later wins: the defaults below (written only here), `lookalike.toml` in the working directory (or the file
named by LOOKALIKE_CONFIG), environment variables LOOKALIKE_SECTION__KEY, and values given on the command line.
"""

import ipaddress
import os
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from lookalike.contracts.errors import SettingsError

CONFIG_VARIABLE = "LOOKALIKE_CONFIG"
DEFAULT_CONFIG = Path("lookalike.toml")
ENV_PREFIX = "LOOKALIKE_"
ENV_DELIMITER = "__"


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
    """Which encoder embeds the catalogue: a folder, a hub id (`hf-hub:…`), or the one in the package."""

    path: str = "lookalike-mini"
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


class GateSettings(_Section):
    """Bars of the gate. All are demanded; lowering one is a decision that the ledger keeps."""

    min_recall_at_10: float = Field(default=0.95, ge=0, le=1)
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


class Settings(BaseSettings):
    """All settings. Frozen; read with `load_settings`."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENV_PREFIX, env_nested_delimiter=ENV_DELIMITER
    )

    home: Path = Field(default=Path("var"), description="everything that Lookalike writes lies below")
    intake: IntakeSettings = IntakeSettings()
    tables: TableSettings = TableSettings()
    spark: SparkSettings = SparkSettings()
    encoder: EncoderSettings = EncoderSettings()
    embed: EmbedSettings = EmbedSettings()
    index: IndexSettings = IndexSettings()
    gate: GateSettings = GateSettings()
    log: LogSettings = LogSettings()
    stream: StreamSettings = StreamSettings()
    registry: RegistrySettings = RegistrySettings()
    serving: ServingSettings = ServingSettings()

    @property
    def tables_root(self) -> str:
        return self.tables.root or str(self.home.absolute() / "tables")

    @property
    def snapshots_root(self) -> Path:
        return self.home.absolute() / "snapshots"

    @property
    def pictures_root(self) -> Path:
        """Content-addressed picture store; a relative `image_path` is below it."""
        return self.home.absolute() / "pictures"

    @property
    def releases_root(self) -> Path:
        return self.home.absolute() / "releases"

    @property
    def encoders_root(self) -> Path:
        return self.home.absolute() / "encoders"

    @property
    def reports_root(self) -> Path:
        return self.home.absolute() / "reports"

    @property
    def log_path(self) -> Path:
        """File of the embedded log."""
        return self.home.absolute() / "log.db"

    @property
    def stream_root(self) -> Path:
        """What workers of the stream keep on this machine; everything there can be made again."""
        return self.home.absolute() / "stream"

    @property
    def locks_root(self) -> Path:
        """Locks of this machine's writers, one file per table; see `storage.table_lock`."""
        return self.home.absolute() / "locks"

    @property
    def tracking_uri(self) -> str:
        return self.registry.tracking_uri or f"sqlite:///{self.home.absolute() / 'mlflow.db'}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, config_path())


def config_path() -> Path:
    """The settings file of this process; it need not exist unless LOOKALIKE_CONFIG names it."""
    return Path(os.environ.get(CONFIG_VARIABLE, DEFAULT_CONFIG))


def load_settings(**overrides: Any) -> Settings:
    """Read and check all settings; `overrides` are those of the command line, by section.

    Raises SettingsError that names file or variable, key, value and what is allowed.
    """
    path = config_path()
    if CONFIG_VARIABLE in os.environ and not path.is_file():
        raise SettingsError(f"{CONFIG_VARIABLE} names {path}, which is not a file")
    _refuse_unknown_variables()
    try:
        return Settings(**overrides)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(detail, path, overrides) for detail in error.errors())) from error


def _known_variables() -> set[str]:
    known = {CONFIG_VARIABLE}
    for name, field in Settings.model_fields.items():
        known.add(f"{ENV_PREFIX}{name.upper()}")
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            known |= {f"{ENV_PREFIX}{name}{ENV_DELIMITER}{key}".upper() for key in section.model_fields}
    return known


def _refuse_unknown_variables() -> None:
    known = _known_variables()
    conf = tuple(f"{ENV_PREFIX}{section}{ENV_DELIMITER}CONF{ENV_DELIMITER}" for section in ("SPARK", "LOG"))
    for variable in sorted(os.environ):
        if variable.startswith(ENV_PREFIX) and variable not in known and not variable.startswith(conf):
            raise SettingsError(f"environment variable {variable} is not a setting. Known: {', '.join(sorted(known))}")


def _explain(detail: Any, path: Path, overrides: dict[str, Any]) -> str:
    keys = [str(part) for part in detail["loc"]]
    variable = ENV_PREFIX + ENV_DELIMITER.join(keys).upper()
    in_overrides = isinstance(overrides.get(keys[0]), dict) and keys[-1] in overrides[keys[0]]
    where = "command line" if in_overrides else variable if variable in os.environ else str(path)
    if detail["type"] == "extra_forbidden":
        section = Settings.model_fields[keys[0]].annotation if len(keys) > 1 else Settings
        allowed = getattr(section, "model_fields", {})
        return f"{where}: unknown key {'.'.join(keys)} (value {detail['input']!r}). Known: {', '.join(sorted(allowed))}"
    return f"{where}: {'.'.join(keys)} = {detail['input']!r} is not allowed: {detail['msg']}"
