"""The moves of `live`, each with its line in the ledger: by promotion and roll-back here, or by hand in MLflow.

A move touches two aliases and the ledger. MLflow has no transaction over them, so the move is first written down as a
tag of the model (the intent), then done: live, previous, ledger, intent removed. A process that dies in between
leaves the intent, and the next move finishes it before doing its own; servers look at `live` alone. Moves of one
machine are serialised by a lock file; over several machines the last one wins and the ledger has all of them.
"""

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.settings import Settings
from lookalike.releases.ledger import Ledger
from lookalike.releases.mlflow_models import ABSENT, ABSENT_ALIAS, MlflowModels
from lookalike.releases.model_tags import intent_from_json, intent_json, ledger_tag
from lookalike.releases.proof import require_proof
from lookalike.releases.release import MOVES, Action, Alias, LedgerEntry, Move, Release
from lookalike.releases.version_tags import release_of
from lookalike.storage.delta import AppTransaction, DeltaTables

LOG = logging.getLogger("lookalike.releases")
INTENT = "lookalike.move_under_way"
ASKED = "lookalike.release_asked_for"
INCOMING = "incoming"
BY_HAND = "by hand in MLflow"
USER_TAGS = ("moved_by", "mlflow.user", "user")
"""Tags of a version in which a person or a plug-in may say who moved it; MLflow itself keeps no such thing."""


class Pointer(MlflowModels):
    """Reads and moves the aliases of the registered index."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._index_model = settings.registry.index_model
        self._encoder_model = settings.registry.encoder_model
        self._ledger = Ledger(DeltaTables(settings.tables_root))

    def alias(self, name: str) -> Release | None:
        """The version that an alias (candidate, live, previous) points at, or None."""
        version = self._absent_is_none(ABSENT_ALIAS, "get_model_version_by_alias", self._index_model, name)
        return None if version is None else release_of(version)

    def live(self) -> Release | None:
        """The release that shall serve, or None before the first promotion. Cheap: meant to be polled."""
        return self.alias(Alias.LIVE)

    def history(self) -> list[LedgerEntry]:
        """The ledger, oldest first: who, when, from what, on which verdict."""
        return self._ledger.entries()

    def last_move(self) -> LedgerEntry | None:
        """The newest move of `live` that the ledger has."""
        return next((entry for entry in reversed(self.history()) if entry.action in MOVES), None)

    def note_move(self, seen_by: str) -> LedgerEntry | None:
        """Write a move of `live` that no line of the ledger explains, as one made by hand in MLflow; the line if so.

        However many processes see the same move, it becomes one line. `previous` is set to what was live before, as
        after any move. Reads the ledger: for after a change of `live`, not for each reading of it.
        """
        live, last = self._live_entry(), self.last_move()
        if live is None or (last is not None and last.version == str(live.version)):
            return None
        with self._one_at_a_time():
            self._finish_interrupted()
            return self._note_move(seen_by)

    # Below: called with the lock held

    def _note_move(self, seen_by: str) -> LedgerEntry | None:
        live = self._live_entry()
        if live is None:
            return None
        version, last = str(live.version), self.last_move()
        if last is not None and last.version == version:
            return None
        before = last.version if last is not None else None
        at = datetime.now(UTC)
        entry = LedgerEntry(
            at, Action.MOVED, version, _mover(live), before, live.tags.get("verdict_sha256"), _seen(live, seen_by)
        )
        # The line before and the version make the key: of several machines that saw this move, one writes it.
        since = last.at.isoformat() if last is not None else "the beginning"
        if not self._ledger.append(entry, AppTransaction(f"move to {version} after {before} since {since}", 1)):
            return None
        LOG.warning("live was moved %s: version %s (before: %s), seen by %s", BY_HAND, version, before, seen_by)
        if before is not None:
            self._absent_is_none(
                ABSENT_ALIAS, "set_registered_model_alias", self._index_model, Alias.PREVIOUS.value, before
            )
        self._mirror(entry)
        self._end_announcement()
        return entry

    def _move(self, action: Action, release: Release, actor: str, reason: str = "") -> Move:
        verdict = require_proof(release)
        live = self._live_entry()
        before = str(live.version) if live is not None else None
        move = Move(action, release.version, before, actor, datetime.now(UTC), verdict.sha256, reason=reason)
        if before == release.version:
            return replace(move, changed=False)
        self._call("set_registered_model_tag", self._index_model, INTENT, intent_json(move))
        self._set_alias(Alias.LIVE, move.version)
        self._complete(move)
        return move

    def _complete(self, move: Move) -> None:
        if move.previous is not None:
            self._absent_is_none(
                ABSENT_ALIAS, "set_registered_model_alias", self._index_model, Alias.PREVIOUS.value, move.previous
            )
        evidence = {"reason": move.reason} if move.reason else {}
        entry = LedgerEntry(
            move.at, move.action, move.version, move.actor, move.previous, move.verdict_sha256, evidence
        )
        self._ledger.append(entry)
        self._mirror(entry)
        self._end_announcement()
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

    def _end_announcement(self) -> None:
        """An encoder that was announced has arrived when a release in its space is live."""
        live, incoming = self._live_entry(), self._incoming_entry()
        if live is None or incoming is None or live.tags.get("space") != incoming.tags.get("space"):
            return
        self._absent_is_none(ABSENT_ALIAS, "delete_registered_model_alias", self._encoder_model, INCOMING)
        LOG.info("the encoder that was incoming is live with release %s", live.version)

    def _incoming_entry(self) -> Any:
        return self._absent_is_none(ABSENT_ALIAS, "get_model_version_by_alias", self._encoder_model, INCOMING)

    def _mirror(self, entry: LedgerEntry) -> None:
        """Show a line of the ledger among the version's tags in MLflow; the ledger is the record, this a copy."""
        try:
            self._call("set_model_version_tag", self._index_model, entry.version, *ledger_tag(entry))
        except LookalikeError as error:
            LOG.warning("the ledger's line is not shown in MLflow: %s", error)

    def _live_entry(self) -> Any:
        return self._absent_is_none(ABSENT_ALIAS, "get_model_version_by_alias", self._index_model, Alias.LIVE.value)

    def _set_alias(self, alias: Alias, version: str) -> None:
        self._call("set_registered_model_alias", self._index_model, alias.value, version)


def _mover(version: Any) -> str:
    named = next((version.tags[tag] for tag in USER_TAGS if version.tags.get(tag)), None) or version.user_id
    return f"{named or 'someone'} ({BY_HAND})"


def _seen(version: Any, seen_by: str) -> dict[str, Any]:
    """What MLflow knows of the move."""
    updated = version.last_updated_timestamp
    try:
        refused_because = None
        require_proof(release_of(version))
    except LookalikeError as error:
        refused_because = str(error)
    return {
        "alias": Alias.LIVE.value,
        "seen_by": seen_by,
        "version_last_updated": datetime.fromtimestamp(updated / 1000, UTC).isoformat() if updated else None,
        "user": next((version.tags[tag] for tag in USER_TAGS if version.tags.get(tag)), version.user_id),
        "servers_refuse_it": refused_because,
    }
