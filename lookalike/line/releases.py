"""Candidate → live: one pointer moves, and the ledger says who moved it, when and on which verdict."""

from dataclasses import dataclass
from datetime import datetime

from lookalike.contracts.errors import NotFound
from lookalike.contracts.settings import Settings
from lookalike.line.actor import current_actor
from lookalike.releases.registry import Registry
from lookalike.releases.release import Action, Alias, LedgerEntry, Move, Release


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
    tables: str


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


def rollback(settings: Settings) -> Move:
    """Move `live` back to `previous`."""
    return Registry(settings).rollback(current_actor())


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
        tables=", ".join(f"{name}@{number}" for name, number in sorted(release.table_versions.items())),
    )


def list_releases(settings: Settings) -> list[ReleaseLine]:
    """All releases, newest first."""
    return [_line(release) for release in Registry(settings).releases()]


def history(settings: Settings) -> list[LedgerEntry]:
    """The ledger, newest first."""
    return sorted(Registry(settings).history(), key=lambda entry: entry.at, reverse=True)


def live_at(settings: Settings, moment: datetime) -> LedgerEntry | None:
    """The move that made live what was live at `moment`; None when nothing was."""
    moves = (e for e in history(settings) if e.action in {Action.PROMOTED, Action.ROLLED_BACK} and e.at <= moment)
    return next(moves, None)
