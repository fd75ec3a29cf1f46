"""Typed values of the registry: a release, a move of the live pointer, and a line of the ledger."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from lookalike.contracts.verdict import Verdict
from lookalike.releases.verdict_file import read_verdict

Identity = tuple[str, str | None, bool]


class Alias(StrEnum):
    """Names that point at one version. `live` is the only truth of what serves."""

    CANDIDATE = "candidate"
    LIVE = "live"
    PREVIOUS = "previous"


class Action(StrEnum):
    """What happened to a version, as the ledger keeps it."""

    REGISTERED = "registered"
    GATED = "gated"
    APPROVED = "approved"  # a person's decision, bound to the verdict that it was made on
    REFUSED = "refused"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    MOVED = "moved"  # `live` was moved in MLflow, by its page or client; seen afterwards
    REMOVED = "removed"
    ASKED = "asked"  # for a release ahead of schedule; `version` is what was live


MOVES = frozenset({Action.PROMOTED, Action.ROLLED_BACK, Action.MOVED})
"""Actions after which `live` names another version."""


@dataclass(frozen=True)
class Decision:
    """What a person said of a version on one verdict. `what` is APPROVED or REFUSED."""

    what: Action
    verdict_sha256: str
    actor: str
    at: datetime
    comment: str = ""


@dataclass(frozen=True)
class Release:
    """One version of the registered index. `manifest_sha256` is what was registered, not what lies on disk now."""

    version: str
    index_dir: Path
    encoder_dir: Path
    encoder_version: str
    manifest_sha256: str
    space: str
    items: int
    recipe: str
    table_versions: dict[str, int]
    created_at: datetime
    actor: str
    verdict_sha256: str | None
    aliases: tuple[str, ...] = ()
    last_decision: Decision | None = None

    @cached_property
    def verdict(self) -> Verdict | None:
        """The verdict, or None without one. Read on first use: who polls the pointer does not need it."""
        return read_verdict(self.index_dir, self.verdict_sha256)

    @property
    def decision(self) -> Decision | None:
        """The last decision on the verdict that counts; one on an earlier verdict does not."""
        last = self.last_decision
        return last if last is not None and last.verdict_sha256 == self.verdict_sha256 else None

    @property
    def refused(self) -> bool:
        """Whether a person refused it on the verdict that counts."""
        return self.decision is not None and self.decision.what is Action.REFUSED

    @property
    def identity(self) -> Identity:
        """Changes when the pointer moves to another version, or the version is judged again, refused or approved."""
        return self.version, self.verdict_sha256, self.refused


@dataclass(frozen=True)
class Move:
    """One move of `live`. `changed` is False when the version was live already."""

    action: Action
    version: str
    previous: str | None
    actor: str
    at: datetime
    verdict_sha256: str
    changed: bool = True
    reason: str = ""


@dataclass(frozen=True)
class LedgerEntry:
    """One line of the append-only ledger."""

    at: datetime
    action: Action
    version: str
    actor: str
    previous: str | None = None
    verdict_sha256: str | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
