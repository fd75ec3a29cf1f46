"""Settings: one frozen object, read once at the entry point and then handed on as explicit arguments.

Sources, later wins: the defaults in `setting_sections`, `lookalike.toml` in the working directory (or the file
named by LOOKALIKE_CONFIG), environment variables LOOKALIKE_SECTION__KEY, and values given on the command line.
"""

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from lookalike.contracts.errors import SettingsError
from lookalike.contracts.setting_sections import (
    EmbedSettings,
    EncoderSettings,
    FeedbackSettings,
    GateSettings,
    HealthSettings,
    IndexSettings,
    IntakeSettings,
    LogSettings,
    MaintenanceSettings,
    NotifySettings,
    RegistrySettings,
    ReleaseSettings,
    ServingSettings,
    SparkSettings,
    StreamSettings,
    TableSettings,
)

__all__ = [
    "EncoderSettings",
    "FeedbackSettings",
    "GateSettings",
    "IndexSettings",
    "IntakeSettings",
    "LogSettings",
    "ReleaseSettings",
    "Settings",
    "load_settings",
]

CONFIG_VARIABLE = "LOOKALIKE_CONFIG"
DEFAULT_CONFIG = Path("lookalike.toml")
ENV_PREFIX = "LOOKALIKE_"
ENV_DELIMITER = "__"


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
    feedback: FeedbackSettings = FeedbackSettings()
    notify: NotifySettings = NotifySettings()
    release: ReleaseSettings = ReleaseSettings()
    maintenance: MaintenanceSettings = MaintenanceSettings()
    health: HealthSettings = HealthSettings()

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
    def builds_root(self) -> Path:
        """Builds of an index that are under way; each folder goes when its release is registered."""
        return self.home.absolute() / "builds"

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
