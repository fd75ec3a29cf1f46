"""Candidate → live: one pointer moves, and the ledger says who moved it, when and on which verdict."""

from dataclasses import dataclass
from datetime import datetime

from lookalike.contracts.errors import NotFound
from lookalike.contracts.settings import Settings
from lookalike.line.actor import current_actor
from lookalike.releases.registry import Registry
from lookalike.releases.release import MOVES, Action, Alias, LedgerEntry, Move, Release

DECISIONS = (Action.APPROVED, Action.REFUSED)


@dataclass(frozen=True)
class ReleaseLine:
    """One release as a person reads it."""

    version: str
    aliases: str
    created: str
    actor: str
    items: int
    recipe: str
    verdict: str
    decision: str
    tables: str


@dataclass(frozen=True)
class LiveThen:
    """What the ledger knows of one moment. `until` is None while it has not been moved again.

    `verdict` and `decision`: the lines on which the move was made, None without one. `unexplained`: the version that
    is live in MLflow now by a move that nothing has written down yet.
    """

    version: str
    move: LedgerEntry
    until: datetime | None
    verdict: LedgerEntry | None
    decision: LedgerEntry | None
    unexplained: str | None = None


def find_release(registry: Registry, version: str | None) -> Release:
    """The release of this version, or the candidate. Raises NotFound with those there are."""
    if version is None:
        candidate = registry.alias(Alias.CANDIDATE)
        if candidate is None:
            raise NotFound("there is no candidate; `lookalike build` makes one")
        return candidate
    return registry.release(version)


def promote(settings: Settings, version: str | None) -> Move:
    """Move `live` to a release with a passed verdict (default: the candidate)."""
    registry = Registry(settings)
    return registry.promote(find_release(registry, version).version, current_actor())


def rollback(settings: Settings, reason: str = "") -> Move:
    """Move `live` back to `previous`."""
    return Registry(settings).rollback(current_actor(), reason)


def decide(settings: Settings, version: str, approved: bool, by: str | None, comment: str) -> LedgerEntry:
    """Keep a person's approval or refusal of a release on its present verdict; `by`: default who runs this."""
    what = Action.APPROVED if approved else Action.REFUSED
    return Registry(settings).decide(version, what, by or current_actor(), comment)


def _line(release: Release) -> ReleaseLine:
    if release.verdict is None:
        verdict = "none"
    else:
        verdict = ("passed " if release.verdict.passed else "FAILED ") + release.verdict.sha256[:12]
    return ReleaseLine(
        version=release.version,
        aliases=", ".join(release.aliases),
        created=f"{release.created_at:%Y-%m-%d %H:%M:%S}",
        actor=release.actor,
        items=release.items,
        recipe=release.recipe,
        verdict=verdict,
        decision=f"{release.decision.what} by {release.decision.actor}" if release.decision is not None else "",
        tables=", ".join(f"{name}@{number}" for name, number in sorted(release.table_versions.items())),
    )


def list_releases(settings: Settings) -> list[ReleaseLine]:
    """All releases, newest first."""
    return [_line(release) for release in Registry(settings).releases()]


def history(settings: Settings) -> list[LedgerEntry]:
    """The ledger, newest first."""
    return sorted(Registry(settings).history(), key=lambda entry: entry.at, reverse=True)


def live_at(settings: Settings, moment: datetime) -> LiveThen | None:
    """What was live at `moment`, who moved it there and on what evidence; None when nothing was."""
    registry = Registry(settings)
    entries = registry.history()
    moves = [entry for entry in entries if entry.action in MOVES]
    move = next((entry for entry in reversed(moves) if entry.at <= moment), None)
    if move is None:
        return None
    before = [entry for entry in entries if entry.version == move.version and entry.at <= move.at]
    gated = [entry for entry in before if entry.action is Action.GATED and entry.verdict_sha256 == move.verdict_sha256]
    decided = [entry for entry in before if entry.action in DECISIONS and entry.verdict_sha256 == move.verdict_sha256]
    return LiveThen(
        version=move.version,
        move=move,
        until=next((entry.at for entry in moves if entry.at > move.at), None),
        verdict=gated[-1] if gated else None,
        decision=decided[-1] if decided else None,
        unexplained=_unexplained(registry, moves) if moment >= moves[-1].at else None,
    )


def unexplained_live(settings: Settings) -> str | None:
    """The version that is live although no line of the ledger says so; None when the ledger explains what is live."""
    registry = Registry(settings)
    return _unexplained(registry, [entry for entry in registry.history() if entry.action in MOVES])


def _unexplained(registry: Registry, moves: list[LedgerEntry]) -> str | None:
    live = registry.live()
    if live is None or (moves and moves[-1].version == live.version):
        return None
    return live.version
