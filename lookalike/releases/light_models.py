"""MLflow's registry in its SQLite file, for the few calls that a move of the pointer makes, without importing MLflow.

MLflow's client takes five seconds to import and brings Spark's Python with it; a roll-back has less time than that.
The calls here do to the rows what MLflow's own store does, and only for table layouts that were compared with it.
For any other layout or kind of store there is MLflow's client, which is slower and otherwise the same.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

SCHEMAS = frozenset({"dc11669786a5"})
"""Layouts (MLflow's alembic revision) on which tests hold every call against MLflow's own client."""
SQLITE = "sqlite:///"
WORKSPACE = "default"
BUSY_SECONDS = 20.0
"""As long as MLflow's own store waits for another writer."""
DELETED = "Deleted_Internal"
ABSENT, INVALID = "RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"
_VERSION = "SELECT name, version, source, user_id, creation_time, last_updated_time FROM model_versions"


class RegistryFault(Exception):
    """What MLflow would have answered: `error_code` and `message` as in its own exception."""

    def __init__(self, error_code: str, message: str) -> None:
        super().__init__(message)
        self.error_code, self.message = error_code, message


@dataclass(frozen=True)
class LightVersion:
    """The members of `mlflow.entities.ModelVersion` that are read here. Times are in ms since 1970."""

    name: str
    version: str
    source: str
    user_id: str | None
    creation_timestamp: int
    last_updated_timestamp: int | None
    tags: dict[str, str]


@dataclass(frozen=True)
class LightModel:
    """The members of `mlflow.entities.RegisteredModel` that are read here."""

    name: str
    aliases: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


def open_light(tracking_uri: str) -> "LightModels | None":
    """The registry of this URI; None where it is no SQLite file of a known layout."""
    if not tracking_uri.startswith(SQLITE) or "?" in tracking_uri:
        return None
    if os.environ.get("MLFLOW_ENABLE_WORKSPACES", "").lower() in ("1", "true"):
        return None
    path = Path(unquote(tracking_uri.removeprefix(SQLITE)))
    if not path.is_file():
        return None
    models = LightModels(path)
    try:
        return models if models.layout() in SCHEMAS else None
    except (sqlite3.Error, RegistryFault):  # MLflow's client says best what is wrong with it
        return None


class LightModels:
    """The same methods as `mlflow.MlflowClient`, with its answers and error codes. Thread-safe: one connection a call.

    Every method raises RegistryFault.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def layout(self) -> str | None:
        """Revision of the tables. Raises sqlite3.Error or RegistryFault when it is no database of MLflow."""
        with self._rows() as rows:
            found = rows.execute("SELECT version_num FROM alembic_version").fetchone()
        return None if found is None else str(found[0])

    def get_registered_model(self, name: str) -> LightModel:
        """The model with aliases and tags."""
        with self._rows() as rows:
            _require_model(rows, name)
            of = "WHERE workspace = ? AND name = ?"
            aliases = rows.execute(f"SELECT alias, version FROM registered_model_aliases {of}", (WORKSPACE, name))
            named = {str(alias): str(version) for alias, version in aliases}
            tags = rows.execute(f"SELECT key, value FROM registered_model_tags {of}", (WORKSPACE, name))
            return LightModel(name, named, dict(tags))

    def get_model_version(self, name: str, version: str) -> LightVersion:
        """One version."""
        with self._rows() as rows:
            return _version(rows, name, _number(version))

    def get_model_version_by_alias(self, name: str, alias: str) -> LightVersion:
        """The version that the alias names."""
        with self._rows() as rows:
            _require_model(rows, name)
            found = rows.execute(
                "SELECT version FROM registered_model_aliases WHERE workspace = ? AND name = ? AND alias = ?",
                (WORKSPACE, name, alias),
            ).fetchone()
            if found is None:
                raise RegistryFault(INVALID, f"Registered model alias {alias} not found.")
            return _version(rows, name, int(found[0]))

    def model_versions(self, name: str) -> list[LightVersion]:
        """All versions of the model, in no order."""
        with self._rows() as rows:
            found = rows.execute(
                "SELECT version FROM model_versions WHERE workspace = ? AND name = ? AND current_stage != ?",
                (WORKSPACE, name, DELETED),
            ).fetchall()
            return [_version(rows, name, int(number)) for (number,) in found]

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        """Let the alias name the version."""
        with self._rows() as rows:
            number = int(_version(rows, name, _number(version)).version)
            rows.execute(
                "INSERT OR REPLACE INTO registered_model_aliases (workspace, name, alias, version) VALUES (?, ?, ?, ?)",
                (WORKSPACE, name, alias, number),
            )

    def set_registered_model_tag(self, name: str, key: str, value: str) -> None:
        """Set a tag of the model."""
        with self._rows() as rows:
            _require_model(rows, name)
            rows.execute(
                "INSERT OR REPLACE INTO registered_model_tags (workspace, name, key, value) VALUES (?, ?, ?, ?)",
                (WORKSPACE, name, key, value),
            )

    def delete_registered_model_tag(self, name: str, key: str) -> None:
        """Remove a tag of the model; one that is not there is no fault."""
        with self._rows() as rows:
            _require_model(rows, name)
            rows.execute(
                "DELETE FROM registered_model_tags WHERE workspace = ? AND name = ? AND key = ?", (WORKSPACE, name, key)
            )

    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        """Set a tag of a version."""
        with self._rows() as rows:
            number = int(_version(rows, name, _number(version)).version)
            rows.execute(
                "INSERT OR REPLACE INTO model_version_tags (workspace, name, version, key, value) "
                "VALUES (?, ?, ?, ?, ?)",
                (WORKSPACE, name, number, key, value),
            )

    @contextmanager
    def _rows(self) -> Iterator[sqlite3.Connection]:
        """A connection; what is written through it is committed at the end of the block, or not at all."""
        uri = f"{self._path.absolute().as_uri()}?mode=rw"
        try:
            with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS)) as connection, connection:
                connection.execute("PRAGMA foreign_keys = ON")
                yield connection
        except sqlite3.OperationalError as error:
            raise RegistryFault("TEMPORARILY_UNAVAILABLE", str(error)) from error


def _require_model(rows: sqlite3.Connection, name: str) -> None:
    asked = "SELECT 1 FROM registered_models WHERE workspace = ? AND name = ?"
    if rows.execute(asked, (WORKSPACE, name)).fetchone() is None:
        raise RegistryFault(ABSENT, f"Registered Model with name={name} not found")


def _number(version: str) -> int:
    try:
        return int(version)
    except ValueError as error:
        raise RegistryFault(INVALID, f"Parameter 'version' must be an integer, got '{version}'.") from error


def _version(rows: sqlite3.Connection, name: str, version: int) -> LightVersion:
    found = rows.execute(
        f"{_VERSION} WHERE workspace = ? AND name = ? AND version = ? AND current_stage != ?",
        (WORKSPACE, name, version, DELETED),
    ).fetchone()
    if found is None:
        raise RegistryFault(ABSENT, f"Model Version (name={name}, version={version}) not found")
    tags = rows.execute(
        "SELECT key, value FROM model_version_tags WHERE workspace = ? AND name = ? AND version = ?",
        (WORKSPACE, name, version),
    )
    _, number, source, user, created, updated = found
    return LightVersion(name, str(number), source, user, created, updated, dict(tags))
