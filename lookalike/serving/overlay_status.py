"""How the overlay of a release stands: what is in it, how far it has seen, how far it is behind, what is wrong."""

from dataclasses import asdict, dataclass
from typing import Any

from lookalike.search.overlay import OverlayStats


@dataclass(frozen=True)
class Lag:
    """How far a partition is behind: messages not yet visible here, and for how many seconds some are known to wait."""

    messages: int
    seconds: float


@dataclass(frozen=True)
class OverlayStatus:
    """`problem` says why changes do not arrive, None while they do. Dictionaries are by partition."""

    stats: OverlayStats
    seen: dict[int, int]
    lag: dict[int, Lag]
    problem: str | None

    @property
    def over_budget(self) -> str | None:
        """Why a release is due, None while the overlay is within its budget."""
        if not self.stats.over_budget:
            return None
        return (
            f"the overlay holds {self.stats.bytes:,} bytes of changes, serving.overlay_bytes allows "
            f"{self.stats.budget_bytes:,}: a new release is due (`lookalike build`, `gate`, `promote`)"
        )

    @property
    def trouble(self) -> str | None:
        """Whatever makes the server degraded."""
        return "; ".join(reason for reason in (self.problem, self.over_budget) if reason) or None

    def ready_members(self) -> dict[str, Any]:
        """For /readyz, as JSON values."""
        return {
            "items": self.stats.touched,
            "bytes": self.stats.bytes,
            "budget_bytes": self.stats.budget_bytes,
            "over_budget": self.stats.over_budget,
            "lag_messages": sum(lag.messages for lag in self.lag.values()),
            "lag_seconds": max((lag.seconds for lag in self.lag.values()), default=0.0),
            "problem": self.trouble,
        }

    def all_members(self) -> dict[str, Any]:
        """For /v1/release and reports, as JSON values."""
        return {
            "items": self.stats.touched,
            **asdict(self.stats),
            "over_budget": self.stats.over_budget,
            "seen": {str(partition): offset for partition, offset in sorted(self.seen.items())},
            "lag": {str(partition): asdict(lag) for partition, lag in sorted(self.lag.items())},
            "problem": self.trouble,
        }
