"""What the registry remembers in tags of the model: a move that is under way, and a release that is asked for."""

import json
from datetime import datetime

from lookalike.releases.release import Action, LedgerEntry, Move


def intent_json(move: Move) -> str:
    """A move that is about to be made."""
    return json.dumps({
        "action": move.action, "version": move.version, "previous": move.previous, "actor": move.actor,
        "at": move.at.isoformat(), "verdict_sha256": move.verdict_sha256,
    })  # fmt: skip


def intent_from_json(text: str) -> Move:
    """The other way."""
    fields = json.loads(text)
    return Move(**fields | {"action": Action(fields["action"]), "at": datetime.fromisoformat(fields["at"])})


def asked_json(entry: LedgerEntry) -> str:
    """A request for a release."""
    return json.dumps({
        "at": entry.at.isoformat(), "version": entry.version, "actor": entry.actor, "evidence": entry.evidence,
    })  # fmt: skip


def asked_from_json(text: str) -> LedgerEntry:
    """The other way."""
    fields = json.loads(text)
    return LedgerEntry(
        datetime.fromisoformat(fields["at"]), Action.ASKED, fields["version"], fields["actor"],
        evidence=fields["evidence"],
    )  # fmt: skip
