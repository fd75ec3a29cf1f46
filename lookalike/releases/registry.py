"""Registry: releases as versions of MLflow registered models; the alias `live` is the only truth of what serves.

A move touches two aliases and the ledger. MLflow has no transaction over them, so the move is first written down as a
tag of the model (the intent), then done: live, previous, ledger, intent removed. A process that dies in between
leaves the intent, and the next move finishes it before doing its own; servers look at `live` alone. Moves of one
machine are serialised by a lock file; over several machines the last one wins and the ledger has all of them.
"""

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookalike.contracts.errors import CorruptArtifact, LookalikeError, NotFound, NotPromotable
from lookalike.contracts.settings import Settings
from lookalike.contracts.verdict import Verdict
from lookalike.releases.encoder_store import keep_encoder
from lookalike.releases.ledger import Ledger
from lookalike.releases.proof import read_manifest, require_proof
from lookalike.releases.release import Action, Alias, LedgerEntry, Move, Release
from lookalike.releases.verdict_file import write_verdict
from lookalike.releases.version_tags import local_path, release_of, tags_of, verdict_tags
from lookalike.storage.delta import DeltaTables

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOG = logging.getLogger("lookalike.releases")
INTENT = "lookalike.move_under_way"
ABSENT = ("RESOURCE_DOES_NOT_EXIST",)
EXISTS = ("RESOURCE_ALREADY_EXISTS",)
# An alias that is not set is reported as a bad parameter, a version that is not a number too.
ABSENT_ALIAS = (*ABSENT, "INVALID_PARAMETER_VALUE")


class Registry:
    """All that is known about releases. Opening costs seconds (MLflow's import), reading an alias milliseconds."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._index_model = settings.registry.index_model
        self._encoder_model = settings.registry.encoder_model
        self._ledger = Ledger(DeltaTables(settings.tables_root))

    # Reading

    def alias(self, name: str) -> Release | None:
        """The version that an alias (candidate, live, previous) points at, or None."""
        version = self._absent_is_none(ABSENT_ALIAS, "get_model_version_by_alias", self._index_model, name)
        return None if version is None else release_of(version)

    def live(self) -> Release | None:
        """The release that shall serve, or None before the first promotion. Cheap: meant to be polled."""
        return self.alias(Alias.LIVE)

    def release(self, version: str) -> Release:
        """One version. Raises NotFound."""
        found = self._absent_is_none(ABSENT_ALIAS, "get_model_version", self._index_model, version)
        if found is None:
            known = ", ".join(release.version for release in self.releases()) or "none"
            raise NotFound(f"{self._index_model} has no version {version!r}; known: {known}")
        return release_of(found)

    def releases(self) -> list[Release]:
        """All versions, newest first, each with its aliases."""
        model = self._absent_is_none(ABSENT, "get_registered_model", self._index_model)
        if model is None:
            return []
        aliases: dict[str, list[str]] = {}
        for alias, version in model.aliases.items():
            aliases.setdefault(str(version), []).append(alias)
        found = []
        for entry in self._call("search_model_versions", f"name = '{self._index_model}'"):
            try:
                release = release_of(entry)
            except CorruptArtifact as error:
                LOG.warning("%s", error)
                continue
            found.append(replace(release, aliases=tuple(sorted(aliases.get(release.version, ())))))
        return sorted(found, key=lambda release: int(release.version), reverse=True)

    def history(self) -> list[LedgerEntry]:
        """The ledger, oldest first: who, when, from what, on which verdict."""
        return self._ledger.entries()

    # Writing

    def register(self, index_dir: Path, encoder_dir: Path, actor: str) -> Release:
        """Make the artifact a new version with alias `candidate`, and its encoder a version when its space is new.

        The encoder's files are copied to the encoder store. The same artifact registered again (a job that was
        killed and ran again) is the same version. Raises CorruptArtifact, NotFound.
        """
        index_dir = index_dir.absolute()
        manifest = read_manifest(index_dir)
        fingerprint = manifest.space.fingerprint
        kept = keep_encoder(encoder_dir, self._settings.encoders_root, fingerprint)
        with self._one_at_a_time():
            encoder_version = self._register_encoder(kept, fingerprint, manifest.space.encoder)
            entry = self._find(self._index_model, "manifest_sha256", manifest.sha256)
            if entry is None or local_path(entry.source) != index_dir:
                tags = tags_of(manifest, kept, encoder_version, actor)
                entry = self._create_version(self._index_model, index_dir, tags)
            registered = release_of(entry)
            self._set_alias(Alias.CANDIDATE, registered.version)
            evidence = {"manifest_sha256": manifest.sha256, "items": manifest.items, "space": fingerprint}
            self._ledger.append(
                LedgerEntry(registered.created_at, Action.REGISTERED, registered.version, registered.actor,
                            evidence=evidence)
            )  # fmt: skip
        return registered

    def set_candidate(self, version: str) -> Release:
        """Make a version that is there already the candidate again. Raises NotFound."""
        release = self.release(version)
        self._set_alias(Alias.CANDIDATE, release.version)
        return release

    def record_verdict(self, version: str, verdict: Verdict, actor: str) -> Release:
        """Keep the gate's verdict: a file beside the artifact, tags of the version, a line in the ledger.

        Raises NotPromotable when the verdict judged another artifact.
        """
        release = self.release(version)
        if verdict.manifest_sha256 != release.manifest_sha256:
            raise NotPromotable(
                f"the verdict judged artifact {verdict.manifest_sha256[:16]}…, but version {version} is "
                f"{release.manifest_sha256[:16]}…; judge this version"
            )
        write_verdict(release.index_dir, verdict)
        for key, value in verdict_tags(verdict).items():
            self._call("set_model_version_tag", self._index_model, version, key, value)
        evidence = verdict.model_dump(mode="json") | {"passed": verdict.passed}
        self._ledger.append(
            LedgerEntry(verdict.at, Action.GATED, version, actor, verdict.compared_with, verdict.sha256, evidence)
        )
        return self.release(version)

    def promote(self, version: str, actor: str) -> Move:
        """Point `live` at the version and `previous` at what was live. Promoting what is live changes nothing.

        Raises NotFound, or NotPromotable / CorruptArtifact unless a passed verdict is bound to the files on disk.
        """
        with self._one_at_a_time():
            self._finish_interrupted()
            return self._move(Action.PROMOTED, self.release(version), actor)

    def rollback(self, actor: str) -> Move:
        """Exchange `live` and `previous`, on the same proof as a promotion. Finishes a roll-back that was cut off."""
        with self._one_at_a_time():
            finished = self._finish_interrupted()
            if finished is not None and finished.action is Action.ROLLED_BACK:
                return finished
            previous = self.alias(Alias.PREVIOUS)
            if previous is None:
                raise NotFound("there is no previous release to go back to; see `lookalike releases`")
            return self._move(Action.ROLLED_BACK, previous, actor)

    # Moves of the pointer

    def _move(self, action: Action, release: Release, actor: str) -> Move:
        verdict = require_proof(release)
        live = self.live()
        before = live.version if live else None
        move = Move(action, release.version, before, actor, datetime.now(UTC), verdict.sha256)
        if before == release.version:
            return replace(move, changed=False)
        self._call("set_registered_model_tag", self._index_model, INTENT, _intent_json(move))
        self._set_alias(Alias.LIVE, move.version)
        self._complete(move)
        return move

    def _complete(self, move: Move) -> None:
        if move.previous is not None:
            self._set_alias(Alias.PREVIOUS, move.previous)
        self._ledger.append(
            LedgerEntry(move.at, move.action, move.version, move.actor, move.previous, move.verdict_sha256)
        )
        self._absent_is_none(ABSENT, "delete_registered_model_tag", self._index_model, INTENT)

    def _finish_interrupted(self) -> Move | None:
        """Finish a move whose process died after it had set `live`; drop one that had not come that far."""
        model = self._absent_is_none(ABSENT, "get_registered_model", self._index_model)
        if model is None or INTENT not in model.tags:
            return None
        move = _intent_from_json(model.tags[INTENT])
        if str(model.aliases.get(Alias.LIVE)) == move.version:
            LOG.warning("finishing the interrupted move of `live` to version %s by %s", move.version, move.actor)
            self._complete(move)
            return move
        self._absent_is_none(ABSENT, "delete_registered_model_tag", self._index_model, INTENT)
        return None

    # MLflow

    def _register_encoder(self, folder: Path, fingerprint: str, name: str) -> str:
        known = self._find(self._encoder_model, "space", fingerprint)
        if known is None:
            known = self._create_version(self._encoder_model, folder, {"space": fingerprint, "encoder": name})
        return str(known.version)

    def _find(self, model: str, tag: str, value: str) -> Any:
        found = self._call("search_model_versions", f"name = '{model}' and tags.{tag} = '{value}'")
        return max(found, key=lambda entry: int(entry.version), default=None)

    def _create_version(self, model: str, folder: Path, tags: dict[str, str]) -> Any:
        self._absent_is_none(EXISTS, "create_registered_model", model)
        return self._call("create_model_version", model, folder.as_uri(), tags=tags)

    def _set_alias(self, alias: Alias, version: str) -> None:
        self._call("set_registered_model_alias", self._index_model, alias.value, version)

    def _absent_is_none(self, codes: tuple[str, ...], method: str, *arguments: Any) -> Any:
        """Call the client; None when it answers with one of these error codes."""
        from mlflow.exceptions import MlflowException

        try:
            return getattr(self._client, method)(*arguments)
        except MlflowException as error:
            if error.error_code in codes:
                return None
            raise LookalikeError(f"registry {self._settings.tracking_uri}: {error.message}") from error

    def _call(self, method: str, *arguments: Any, **named: Any) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return getattr(self._client, method)(*arguments, **named)
        except MlflowException as error:
            raise LookalikeError(f"registry {self._settings.tracking_uri}: {error.message}") from error

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


def _intent_json(move: Move) -> str:
    return json.dumps({
        "action": move.action, "version": move.version, "previous": move.previous, "actor": move.actor,
        "at": move.at.isoformat(), "verdict_sha256": move.verdict_sha256,
    })  # fmt: skip


def _intent_from_json(text: str) -> Move:
    fields = json.loads(text)
    return Move(**fields | {"action": Action(fields["action"]), "at": datetime.fromisoformat(fields["at"])})
