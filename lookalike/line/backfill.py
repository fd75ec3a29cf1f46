"""Backfill: the nights of a range, one after the other, as the nightly run would have taken them.

Killed and run again it passes over what is in the tables already, so it needs no notes of its own.
"""

import logging
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING

from lookalike.contracts.errors import BadQuery
from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings
from lookalike.line.embed import embed, embed_spaces
from lookalike.line.nights import NightReport, ingest_night, night_line
from lookalike.releases.encoder_in_use import with_encoder

if TYPE_CHECKING:
    from spark.embed import EmbedReport

LOG = logging.getLogger("lookalike.backfill")


@dataclass(frozen=True)
class BackfilledNight:
    """One night: its ingest, and by space what was embedded after it."""

    ingest: NightReport
    embedded: tuple["EmbedReport", ...]


@dataclass(frozen=True)
class BackfillReport:
    """All nights of the range in order. Counts are rows taken and withdrawn and items that got a vector."""

    nights: tuple[BackfilledNight, ...]
    with_snapshot: int
    taken: int
    withdrawn: int
    embedded: int


def nights_between(first: date, last: date) -> list[date]:
    """All days from `first` to `last`, both included. Raises BadQuery when the range is the wrong way round."""
    if first > last:
        raise BadQuery(f"--from {first} is after --to {last}; give the earlier night first")
    return [first + timedelta(days=day) for day in range((last - first).days + 1)]


def backfill(
    settings: Settings, first: date, last: date, progress: Progress, encoder: str | None = None
) -> BackfillReport:
    """Ingest, then embed, night by night. `encoder`: fill its space alone, not those that the nightly run feeds.

    Raises BadQuery for the range, NotFound for the encoder.
    """
    nights, done = nights_between(first, last), []
    for number, night in enumerate(nights, start=1):
        ingested = ingest_night(settings, night, progress)
        LOG.info("%d of %d: %s", number, len(nights), night_line(ingested))
        done.append(BackfilledNight(ingested, _embed(settings, progress, encoder) if ingested.snapshots else ()))
    report = BackfillReport(tuple(done), 0, 0, 0, 0)
    return replace(
        report,
        with_snapshot=sum(bool(each.ingest.snapshots) for each in done),
        taken=sum(each.ingest.taken for each in done),
        withdrawn=sum(each.ingest.withdrawn for each in done),
        embedded=sum(one.embedded + one.reused for each in done for one in each.embedded),
    )


def _embed(settings: Settings, progress: Progress, encoder: str | None) -> tuple["EmbedReport", ...]:
    if encoder is None:
        return tuple(embed_spaces(settings, progress))
    report = embed(with_encoder(settings, encoder), progress)
    return () if report is None else (report,)
