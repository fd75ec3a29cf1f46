"""One night: the snapshots of a UTC day into the tables. Nights may come in any order, and again.

The rows come out the same (see `spark.ingest`), so a night that failed or was missed is run whenever there is time.
"""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from lookalike.contracts.errors import NotFound
from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings
from lookalike.line.ingest import ingest
from lookalike.line.snapshots import known_nights, snapshots_of

if TYPE_CHECKING:
    from spark.ingest import IngestReport

SHOWN_NIGHTS = 7


@dataclass(frozen=True)
class NightReport:
    """What a night brought. `snapshots`: those it has; `reports`: of those that were not in the tables already."""

    night: str
    snapshots: tuple[str, ...]
    reports: tuple["IngestReport", ...]
    taken: int
    unchanged: int
    withdrawn: int
    refused: int


def ingest_night(settings: Settings, night: date, progress: Progress, must: bool = False) -> NightReport:
    """Take the snapshots of a night in: of each source the last. A night without one is no fault unless it `must`.

    Raises NotFound with `must`, CorruptArtifact for a folder that is not a whole snapshot.
    """
    folders = snapshots_of(settings, night)
    if must and not folders:
        nights = known_nights(settings)
        known = ", ".join(map(str, nights[-SHOWN_NIGHTS:])) or "none"
        earlier = f" and {len(nights) - SHOWN_NIGHTS} earlier ones" if len(nights) > SHOWN_NIGHTS else ""
        raise NotFound(
            f"there is no snapshot of the night {night} below {settings.snapshots_root}; nights with one: "
            f"{known}{earlier}. `lookalike catalogue import PATH --night {night}` makes one; without --must "
            "such a night is passed over"
        )
    reports = tuple(report for report in (ingest(settings, folder, progress) for folder in folders) if report)
    return NightReport(
        night=night.isoformat(),
        snapshots=tuple(folder.name for folder in folders),
        reports=reports,
        taken=sum(report.taken for report in reports),
        unchanged=sum(report.unchanged for report in reports),
        withdrawn=sum(report.withdrawn for report in reports),
        refused=sum(sum(report.refused.values()) for report in reports),
    )


def night_line(report: NightReport) -> str:
    """The night as one line for people."""
    if not report.snapshots:
        return f"night {report.night}: no snapshot, nothing to ingest"
    names = ", ".join(report.snapshots)
    if not report.reports:
        return f"night {report.night}: nothing to ingest, {names} is in the tables already"
    return (
        f"night {report.night}, {names}: {report.taken:,} rows taken, {report.unchanged:,} unchanged, "
        f"{report.withdrawn:,} withdrawn, {report.refused:,} refused"
    )
