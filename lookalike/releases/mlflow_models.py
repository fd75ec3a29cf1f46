"""MLflow's registry as we use it: its errors in our words, one client per process, writers of one machine in turn."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.settings import Settings
from lookalike.releases.light_models import LightModels, RegistryFault, open_light

if TYPE_CHECKING:
    from mlflow import MlflowClient

ABSENT = ("RESOURCE_DOES_NOT_EXIST",)
EXISTS = ("RESOURCE_ALREADY_EXISTS",)
# An alias that is not set is reported as a bad parameter, a version that is not a number too.
ABSENT_ALIAS = (*ABSENT, "INVALID_PARAMETER_VALUE")


class MlflowModels:
    """Registered models, their versions, tags and aliases.

    Where the registry is a SQLite file of a known layout, most calls go to it directly. MLflow itself is imported for
    the others, on first use, which takes seconds.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def _versions(self, model: str) -> list[Any]:
        """All versions of a model; none when there is no such model."""
        if self._light is not None:
            return list(self._call("model_versions", model))
        return list(self._call("search_model_versions", f"name = '{model}'"))

    def _find(self, model: str, tag: str, value: str) -> Any:
        found = [entry for entry in self._versions(model) if entry.tags.get(tag) == value]
        return max(found, key=lambda entry: int(entry.version), default=None)

    def _create_version(self, model: str, folder: Path, tags: dict[str, str]) -> Any:
        self._absent_is_none(EXISTS, "create_registered_model", model)
        return self._call("create_model_version", model, folder.as_uri(), tags=tags)

    def _absent_is_none(self, codes: tuple[str, ...], method: str, *arguments: Any) -> Any:
        """Call the client; None when it answers with one of these error codes."""
        try:
            return self._ask(method, *arguments)
        except RegistryFault as fault:
            if fault.error_code in codes:
                return None
            raise self._named(fault) from fault

    def _call(self, method: str, *arguments: Any, **named: Any) -> Any:
        try:
            return self._ask(method, *arguments, **named)
        except RegistryFault as fault:
            raise self._named(fault) from fault

    def _named(self, fault: RegistryFault) -> LookalikeError:
        return LookalikeError(f"registry {self._settings.tracking_uri}: {fault.message}")

    def _ask(self, method: str, *arguments: Any, **named: Any) -> Any:
        if hasattr(self._light, method):
            return getattr(self._light, method)(*arguments, **named)
        client = self._client
        from mlflow.exceptions import MlflowException

        try:
            return getattr(client, method)(*arguments, **named)
        except MlflowException as error:
            raise RegistryFault(error.error_code, error.message) from error

    @cached_property
    def _light(self) -> LightModels | None:
        return open_light(self._settings.tracking_uri)

    @cached_property
    def _client(self) -> "MlflowClient":
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        uri = self._settings.tracking_uri
        with self._one_at_a_time("migration"):  # two first uses at once would both make the tables
            try:
                return MlflowClient(tracking_uri=uri, registry_uri=uri)
            except MlflowException as error:
                raise LookalikeError(f"registry.tracking_uri = {uri!r} cannot be used: {error.message}") from error

    @contextmanager
    def _one_at_a_time(self, what: str = "moves") -> Iterator[None]:
        home = self._settings.home.absolute()
        home.mkdir(parents=True, exist_ok=True)
        with (home / f".registry-{what}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
