"""Registry: releases as versions of MLflow registered models; the alias `live` is the only truth of what serves.

A move touches two aliases and the ledger. MLflow has no transaction over them, so the move is first written down as a
tag of the model (the intent), then done: live, previous, ledger, intent removed. A process that dies in between
leaves the intent, and the next move finishes it before doing its own; servers look at `live` alone. Moves of one
machine are serialised by a lock file; over several machines the last one wins and the ledger has all of them.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lookalike.contracts.errors import CorruptArtifact, NotFound, NotPromotable
from lookalike.contracts.settings import Settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.verdict import Verdict
from lookalike.releases.encoder_store import keep_encoder
from lookalike.releases.ledger import Ledger
from lookalike.releases.mlflow_models import ABSENT, ABSENT_ALIAS, MlflowModels
from lookalike.releases.model_tags import asked_from_json, asked_json, intent_from_json, intent_json
from lookalike.releases.proof import read_manifest, require_proof
from lookalike.releases.release import Action, Alias, LedgerEntry, Move, Release
from lookalike.releases.verdict_file import write_verdict
from lookalike.releases.version_tags import local_path, release_of, tags_of, verdict_tags
from lookalike.storage.delta import DeltaTables

LOG = logging.getLogger("lookalike.releases")
INTENT = "lookalike.move_under_way"
ASKED = "lookalike.release_asked_for"
INCOMING = "incoming"


class Registry(MlflowModels):
    """All that is known about releases. Opening costs seconds (MLflow's import), reading an alias milliseconds."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
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

    def asked(self) -> LedgerEntry | None:
        """The request for a release that still stands: `version` was live when it was made. Cheap."""
        model = self._absent_is_none(ABSENT, "get_registered_model", self._index_model)
        return asked_from_json(model.tags[ASKED]) if model is not None and ASKED in model.tags else None

    def incoming_encoder(self) -> Path | None:
        """Folder of the encoder with alias `incoming`, whose vectors are written ahead of its first release."""
        found = self._absent_is_none(ABSENT_ALIAS, "get_model_version_by_alias", self._encoder_model, INCOMING)
        return None if found is None else local_path(found.source)

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

    def ask_for_release(self, reason: str, evidence: Mapping[str, Any], actor: str) -> LedgerEntry:
        """Ask for a release ahead of schedule: a line in the ledger, and a tag until the pointer moves next.

        Asked again meanwhile, by whomever, nothing is written and the request that stands is returned. Raises
        NotFound when nothing is live.
        """
        with self._one_at_a_time():
            standing = self.asked()
            if standing is None:
                live = self.live()
                if live is None:
                    raise NotFound("nothing is live, so there is nothing to make a newer release of")
                standing = LedgerEntry(
                    datetime.now(UTC), Action.ASKED, live.version, actor, evidence={"reason": reason, **evidence}
                )
                self._call("set_registered_model_tag", self._index_model, ASKED, asked_json(standing))
            elif standing in self._ledger.entries():
                return standing
            self._ledger.append(standing)  # also for one that died between the tag and this line
            return standing

    def announce_encoder(self, encoder_dir: Path, space: EmbeddingSpace, actor: str) -> Path:
        """Keep the encoder of `space`, register it and point `incoming` at it: the stream writes its vectors too.

        Returns the folder in the encoder store. Announcing another one replaces it. Raises NotFound.
        """
        kept = keep_encoder(encoder_dir, self._settings.encoders_root, space.fingerprint)
        with self._one_at_a_time():
            version = self._register_encoder(kept, space.fingerprint, space.encoder)
            self._call("set_model_version_tag", self._encoder_model, version, "announced_by", actor)
            self._call("set_registered_model_alias", self._encoder_model, INCOMING, version)
        LOG.info("encoder %s, space %s, is incoming, by %s", space.encoder, space.fingerprint, actor)
        return kept

    def withdraw_encoder(self, actor: str) -> Path:
        """Take the alias `incoming` away; its encoder's folder. Raises NotFound when there is none."""
        with self._one_at_a_time():
            kept = self.incoming_encoder()
            if kept is None:
                raise NotFound("no encoder is incoming; `lookalike encoder announce PATH` announces one")
            self._absent_is_none(ABSENT_ALIAS, "delete_registered_model_alias", self._encoder_model, INCOMING)
        LOG.info("encoder %s is no longer incoming, by %s", kept, actor)
        return kept

    # Moves of the pointer

    def _move(self, action: Action, release: Release, actor: str) -> Move:
        verdict = require_proof(release)
        live = self.live()
        before = live.version if live else None
        move = Move(action, release.version, before, actor, datetime.now(UTC), verdict.sha256)
        if before == release.version:
            return replace(move, changed=False)
        self._call("set_registered_model_tag", self._index_model, INTENT, intent_json(move))
        self._set_alias(Alias.LIVE, move.version)
        self._complete(move)
        return move

    def _complete(self, move: Move) -> None:
        if move.previous is not None:
            self._set_alias(Alias.PREVIOUS, move.previous)
        self._ledger.append(
            LedgerEntry(move.at, move.action, move.version, move.actor, move.previous, move.verdict_sha256)
        )
        self._absent_is_none(ABSENT, "delete_registered_model_tag", self._index_model, ASKED)
        self._absent_is_none(ABSENT, "delete_registered_model_tag", self._index_model, INTENT)

    def _finish_interrupted(self) -> Move | None:
        """Finish a move whose process died after it had set `live`; drop one that had not come that far."""
        model = self._absent_is_none(ABSENT, "get_registered_model", self._index_model)
        if model is None or INTENT not in model.tags:
            return None
        move = intent_from_json(model.tags[INTENT])
        if str(model.aliases.get(Alias.LIVE)) == move.version:
            LOG.warning("finishing the interrupted move of `live` to version %s by %s", move.version, move.actor)
            self._complete(move)
            return move
        self._absent_is_none(ABSENT, "delete_registered_model_tag", self._index_model, INTENT)
        return None

    def _register_encoder(self, folder: Path, fingerprint: str, name: str) -> str:
        known = self._find(self._encoder_model, "space", fingerprint)
        if known is None:
            known = self._create_version(self._encoder_model, folder, {"space": fingerprint, "encoder": name})
        return str(known.version)

    def _set_alias(self, alias: Alias, version: str) -> None:
        self._call("set_registered_model_alias", self._index_model, alias.value, version)
