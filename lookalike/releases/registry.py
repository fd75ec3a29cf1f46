"""Registry: releases as versions of MLflow registered models; the alias `live` is the only truth of what serves.

Versions, verdicts, people's decisions and encoders are here; `pointer` has the moves. Whatever is done to a version
is a line of the ledger and shows among the version's tags in MLflow.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lookalike.contracts.errors import CorruptArtifact, LookalikeError, NotFound, NotPromotable
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.verdict import Verdict
from lookalike.releases.encoder_store import keep_encoder
from lookalike.releases.mlflow_models import ABSENT, ABSENT_ALIAS
from lookalike.releases.model_tags import asked_from_json, asked_json, decision_json
from lookalike.releases.pointer import ASKED, INCOMING, Pointer
from lookalike.releases.proof import read_manifest, require_proof
from lookalike.releases.release import Action, Alias, Decision, LedgerEntry, Move, Release
from lookalike.releases.verdict_file import write_verdict
from lookalike.releases.version_tags import DECISION, local_path, release_of, tags_of, verdict_tags

LOG = logging.getLogger("lookalike.releases")
LONGEST_COMMENT = 1_000


class Registry(Pointer):
    """All that is known about releases."""

    # Reading

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
        for entry in self._versions(self._index_model):
            try:
                release = release_of(entry)
            except CorruptArtifact as error:
                LOG.warning("%s", error)
                continue
            found.append(replace(release, aliases=tuple(sorted(aliases.get(release.version, ())))))
        return sorted(found, key=lambda release: int(release.version), reverse=True)

    def asked(self) -> LedgerEntry | None:
        """The request for a release that still stands: `version` was live when it was made. Cheap."""
        model = self._absent_is_none(ABSENT, "get_registered_model", self._index_model)
        return asked_from_json(model.tags[ASKED]) if model is not None and ASKED in model.tags else None

    def incoming_encoder(self) -> Path | None:
        """Folder of the encoder with alias `incoming`, whose vectors are written ahead of its first release."""
        found = self._incoming_entry()
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

    def decide(self, version: str, what: Action, actor: str, comment: str = "") -> LedgerEntry:
        """Keep that a person approved or refused the version on its present verdict; servers and `promote` obey.

        The same decision again is not written twice. Raises NotFound, NotPromotable (nothing to decide on: no passed
        verdict), LookalikeError (refusing what is live).
        """
        if len(comment) > LONGEST_COMMENT:
            raise LookalikeError(f"the comment has {len(comment):,} characters; {LONGEST_COMMENT:,} are allowed")
        with self._one_at_a_time():
            release = self.release(version)
            if what is Action.APPROVED:
                verdict = require_proof(replace(release, last_decision=None))
            else:
                verdict = self._judged(release)
            decision, live = release.decision, self.live()
            if what is Action.REFUSED and live is not None and live.version == version:
                raise LookalikeError(f"version {version} is live; `lookalike rollback` first, then refuse it")
            if decision is None or (decision.what, decision.actor, decision.comment) != (what, actor, comment):
                decision = Decision(what, verdict.sha256, actor, datetime.now(UTC), comment)
                self._call("set_model_version_tag", self._index_model, version, DECISION, decision_json(decision))
            before = live.version if live is not None else None
            evidence = {"comment": comment, "checks": {check.name: check.observed for check in verdict.checks}}
            entry = LedgerEntry(decision.at, what, version, actor, before, verdict.sha256, evidence)
            if not any((e.at, e.action, e.version) == (entry.at, what, version) for e in self.history()):
                self._ledger.append(entry)
            self._mirror(entry)
        return entry

    def promote(self, version: str, actor: str) -> Move:
        """Point `live` at the version and `previous` at what was live. Promoting what is live changes nothing.

        Raises NotFound, or NotPromotable / CorruptArtifact unless a passed verdict is bound to the files on disk, no
        person refused it since and, where `release.approval` is "person", a person approved it since.
        """
        with self._one_at_a_time():
            self._finish_interrupted()
            self._note_move(actor)
            release = self.release(version)
            self._require_approval(release)
            return self._move(Action.PROMOTED, release, actor)

    def rollback(self, actor: str, reason: str = "", only_from: str | None = None) -> Move:
        """Exchange `live` and `previous`, on the same proof as a promotion. Finishes a roll-back that was cut off.

        `reason` is kept in the ledger. Raises NotFound without a previous release, NotPromotable / CorruptArtifact
        when it has lost its proof, LookalikeError when `only_from` is given and another version is live by now.
        """
        reason = reason[:LONGEST_COMMENT]
        with self._one_at_a_time():
            finished = self._finish_interrupted()
            if finished is not None and finished.action is Action.ROLLED_BACK:
                return finished
            self._note_move(actor)
            if only_from is not None and self._live_version() != only_from:
                raise LookalikeError(f"live is version {self._live_version()} by now, not {only_from}: left as it is")
            previous = self.alias(Alias.PREVIOUS)
            if previous is None:
                raise NotFound("there is no previous release to go back to; see `lookalike releases`")
            return self._move(Action.ROLLED_BACK, previous, actor, reason)

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

        Returns the folder in the encoder store. Announcing another one replaces it; a release in its
        space that goes live ends it. Raises NotFound.
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

    def _require_approval(self, release: Release) -> None:
        if self._settings.release.approval != "person" or release.version == self._live_version():
            return
        decision = release.decision
        if decision is None:
            require_proof(release)  # what is wrong with the verdict is said first
            raise NotPromotable(
                f"version {release.version} awaits a person's approval (release.approval = person): see "
                f"`lookalike compare {release.version}`, then `lookalike approve {release.version}` or `refuse`"
            )

    def _live_version(self) -> str | None:
        live = self.live()
        return live.version if live is not None else None

    def _judged(self, release: Release) -> Verdict:
        if release.verdict is None:
            raise NotPromotable(f"version {release.version} has no verdict; judge it first with `lookalike gate`")
        return release.verdict

    def _register_encoder(self, folder: Path, fingerprint: str, name: str) -> str:
        known = self._find(self._encoder_model, "space", fingerprint)
        if known is None:
            known = self._create_version(self._encoder_model, folder, {"space": fingerprint, "encoder": name})
        return str(known.version)
