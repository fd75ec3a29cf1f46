"""What the registry remembers as JSON in tags: a move under way, a release asked for, a decision, a ledger's line."""

import json
from datetime import UTC, datetime

from lookalike.releases.release import Action, Decision, LedgerEntry, Move


def intent_json(move: Move) -> str:
    """A move that is about to be made."""
    return json.dumps({
        "action": move.action, "version": move.version, "previous": move.previous, "actor": move.actor,
        "at": move.at.isoformat(), "verdict_sha256": move.verdict_sha256, "reason": move.reason,
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


def decision_json(decision: Decision) -> str:
    """What a person decided, in one tag: it is there whole or not at all."""
    return json.dumps({
        "what": decision.what, "verdict_sha256": decision.verdict_sha256, "actor": decision.actor,
        "at": decision.at.isoformat(), "comment": decision.comment,
    })  # fmt: skip


def decision_from_json(text: str) -> Decision:
    """The other way."""
    fields = json.loads(text)
    return Decision(**fields | {"what": Action(fields["what"]), "at": datetime.fromisoformat(fields["at"])})


def ledger_tag(entry: LedgerEntry) -> tuple[str, str]:
    """Key and value of the tag that shows a line of the ledger in MLflow; a line written again is the same tag."""
    verdict = f", verdict {entry.verdict_sha256[:12]}" if entry.verdict_sha256 else ""
    before = f", before {entry.previous}" if entry.previous else ""
    at = entry.at.astimezone(UTC)
    return f"ledger {at:%Y-%m-%dT%H:%M:%S.%fZ}", f"{entry.action.value} by {entry.actor}{before}{verdict}"
