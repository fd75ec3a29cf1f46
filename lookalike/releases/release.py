"""Typed values of the registry: a release, a move of the live pointer, and a line of the ledger."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from lookalike.contracts.verdict import Verdict
from lookalike.releases.verdict_file import read_verdict


class Alias(StrEnum):
    """Names that point at one version. `live` is the only truth of what serves."""

    CANDIDATE = "candidate"
    LIVE = "live"
    PREVIOUS = "previous"


class Action(StrEnum):
    """What happened to a version, as the ledger keeps it."""

    REGISTERED = "registered"
    GATED = "gated"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    ASKED = "asked"  # for a release ahead of schedule; `version` is what was live


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

    @cached_property
    def verdict(self) -> Verdict | None:
        """The verdict, or None without one. Read on first use: who polls the pointer does not need it."""
        return read_verdict(self.index_dir, self.verdict_sha256)

    @property
    def identity(self) -> tuple[str, str | None]:
        """Changes when the pointer moves to another version or the version is judged again."""
        return self.version, self.verdict_sha256


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
