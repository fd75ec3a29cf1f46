"""The online report: impressions and clicks of a day joined by search, counted per release and kind of query.

The join runs in the query engine of delta-rs, a slice of the search ids at a time, so that memory stays bounded
whatever a day holds. All sums are of whole numbers: any order of threads gives the same row. A report that would say
the same again is not written; one that says something new is a new revision beside the old.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pyarrow as pa

from lookalike.contracts.feedback import POSITIONS, UNKNOWN, WINDOW, FeedbackEvent
from lookalike.contracts.tables import CLICKS, IMPRESSIONS, ONLINE_REPORT
from lookalike.storage.delta import AppTransaction, DeltaTables

SLICE_ROWS = 500_000
"""Impressions and clicks joined at a time."""
SLICE_DIGITS = 3
_HOURS = int(WINDOW.total_seconds() // 3600)

# A retry of the log may have written an impression twice: the first one counts.
_JOIN = """
WITH shown AS (
  SELECT * FROM (
    SELECT search_id, "at", release, query_kind, "start", items,
           row_number() OVER (PARTITION BY search_id ORDER BY "partition", "offset") AS copy
    FROM impressions WHERE {where}
  ) AS copies WHERE copy = 1
), given AS (
  SELECT search_id, item_id, event, "at", "offset",
         row_number() OVER (PARTITION BY search_id, item_id, event ORDER BY "at", "offset") AS copy
  FROM clicks WHERE {where}
), joined AS (
  SELECT given.search_id, given.event, given."at", given."offset",
         coalesce(shown.release, '{unknown}') AS release, coalesce(shown.query_kind, '{unknown}') AS query_kind,
         shown."start" + CAST(array_position(shown.items, given.item_id) AS BIGINT) AS position,
         CASE WHEN shown.search_id IS NULL THEN 'orphan_clicks'
              WHEN given."at" > shown."at" + INTERVAL '{hours} hours' THEN 'late'
              WHEN array_position(shown.items, given.item_id) IS NULL THEN 'not_shown'
              WHEN given.copy > 1 THEN 'repeated'
              ELSE 'counted' END AS fate
  FROM given LEFT JOIN shown ON given.search_id = shown.search_id
)
"""
_IMPRESSIONS = "SELECT release, query_kind, count(*) AS n, {shown_at} FROM shown GROUP BY release, query_kind"
_SHOWN_AT = (
    'count(*) FILTER (WHERE "start" < {position} AND {position} <= "start" + cardinality(items)) AS shown_{position}'
)
_EVENTS = """SELECT release, query_kind, fate, event, CASE WHEN fate = 'counted' THEN position END AS position,
  count(*) AS n FROM joined GROUP BY 1, 2, 3, 4, 5"""
_FIRST_CLICKS = """SELECT release, query_kind, position, count(*) AS n FROM (
  SELECT release, query_kind, position, row_number() OVER (PARTITION BY search_id ORDER BY "at", "offset") AS place
  FROM joined WHERE fate = 'counted' AND event = '{click}'
) AS clicked WHERE place = 1 GROUP BY 1, 2, 3"""
_EVENT_COLUMNS = {FeedbackEvent.CLICK: "clicks", FeedbackEvent.CART: "carts", FeedbackEvent.PURCHASE: "purchases"}


@dataclass
class _Counts:
    """Sums of one release and kind of query over the slices."""

    impressions: int = 0
    shown_at: list[int] = field(default_factory=lambda: [0] * POSITIONS)
    clicked_at: list[int] = field(default_factory=lambda: [0] * POSITIONS)
    by_column: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    first_clicks: dict[int, int] = field(default_factory=lambda: defaultdict(int))


_Groups = dict[tuple[str, str], _Counts]


@dataclass(frozen=True)
class DayReport:
    """A day's newest rows. `revised`: whether they were written now; `revision` 0: there is nothing to report."""

    day: date
    revision: int
    revised: bool
    rows: tuple[dict[str, Any], ...]


def write_report(tables: DeltaTables, day: date, now: datetime) -> DayReport:
    """Report on a UTC day from what the tables have; written if it differs from the last revision.

    The caller holds the lock of ONLINE_REPORT.
    """
    before = latest_report(tables, day)
    closed = now >= datetime.combine(day, time(), UTC) + timedelta(days=1) + WINDOW
    rows = [
        {"day": day, "release": release, "query_kind": kind, **_columns(counts), "closed": closed}
        for (release, kind), counts in sorted(_count(tables, day).items())
    ]
    if rows == list(before.rows):
        return before
    revision = before.revision + 1
    table = pa.Table.from_pylist([row | {"revision": revision} for row in rows], schema=ONLINE_REPORT.schema)
    written = tables.append(ONLINE_REPORT, table, AppTransaction(f"report:{day}", revision))
    return DayReport(day, revision, written, tuple(rows))


def latest_report(tables: DeltaTables, day: date) -> DayReport:
    """The rows that count for a day, by release and kind of query, without their revision."""
    if not tables.exists(ONLINE_REPORT.name):
        return DayReport(day, 0, False, ())
    rows = tables.read(ONLINE_REPORT, where=f"day = DATE '{day}'", order_by="release, query_kind").to_pylist()
    revision = max((row["revision"] for row in rows), default=0)
    newest = [row for row in rows if row.pop("revision") == revision]
    return DayReport(day, revision, False, tuple(newest))


def _count(tables: DeltaTables, day: date) -> _Groups:
    """Counts by release and kind of query."""
    groups: _Groups = defaultdict(_Counts)
    for contract in (IMPRESSIONS, CLICKS):
        tables.create(contract)
    for where in _slices(tables, day):
        join = _JOIN.format(where=where, unknown=UNKNOWN, hours=_HOURS)
        shown_at = ", ".join(_SHOWN_AT.format(position=position) for position in range(1, POSITIONS + 1))
        for row in _rows(tables, join + _IMPRESSIONS.format(shown_at=shown_at)):
            counts = groups[row["release"], row["query_kind"]]
            counts.impressions += row["n"]
            for place in range(POSITIONS):
                counts.shown_at[place] += row[f"shown_{place + 1}"]
        for row in _rows(tables, join + _EVENTS):
            _add_events(groups[row["release"], row["query_kind"]], row)
        for row in _rows(tables, join + _FIRST_CLICKS.format(click=FeedbackEvent.CLICK)):
            groups[row["release"], row["query_kind"]].first_clicks[row["position"]] += row["n"]
    return groups


def _slices(tables: DeltaTables, day: date) -> Iterator[str]:
    """Conditions that cut a day into parts of about SLICE_ROWS; the end of a search id is random."""
    whole = f"day = DATE '{day}'"
    rows = sum(tables.count(contract, whole) for contract in (IMPRESSIONS, CLICKS))
    ends = 16**SLICE_DIGITS
    parts = min(ends, math.ceil(rows / SLICE_ROWS))
    for part in range(parts):
        low, high = (number * ends // parts for number in (part, part + 1))
        end = f"right(search_id, {SLICE_DIGITS})"
        yield f"{whole} AND {end} BETWEEN '{low:0{SLICE_DIGITS}x}' AND '{high - 1:0{SLICE_DIGITS}x}'"


def _rows(tables: DeltaTables, sql: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = tables.query(sql, IMPRESSIONS, CLICKS).to_pylist()
    return rows


def _add_events(counts: _Counts, row: dict[str, Any]) -> None:
    if row["fate"] != "counted":
        counts.by_column[row["fate"]] += row["n"]
        return
    counts.by_column[_EVENT_COLUMNS[row["event"]]] += row["n"]
    if row["event"] == FeedbackEvent.CLICK and row["position"] <= POSITIONS:
        counts.clicked_at[row["position"] - 1] += row["n"]


def _columns(counts: _Counts) -> dict[str, Any]:
    """Counts as columns of ONLINE_REPORT."""
    clicked = sum(counts.first_clicks.values())
    reciprocal = math.fsum(number / position for position, number in sorted(counts.first_clicks.items()))
    named = (*_EVENT_COLUMNS.values(), "orphan_clicks", "not_shown", "late", "repeated")
    return {
        "impressions": counts.impressions,
        "clicked": clicked,
        "ctr": clicked / counts.impressions if counts.impressions else None,
        "mrr_first_click": reciprocal / clicked if clicked else None,
        **{name: counts.by_column[name] for name in named},
        "shown_at": counts.shown_at,
        "clicked_at": counts.clicked_at,
        "ctr_at": [n / shown if shown else None for n, shown in zip(counts.clicked_at, counts.shown_at, strict=True)],
    }
