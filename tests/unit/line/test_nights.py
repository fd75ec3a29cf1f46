"""Which snapshots a night has, ranges of nights, and what the command line answers without any table."""

import json
from datetime import date

import pytest

from lookalike.contracts.errors import BadQuery, CorruptArtifact, NotFound
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import load_settings
from lookalike.line.backfill import backfill, nights_between
from lookalike.line.nights import ingest_night, night_line
from lookalike.line.snapshots import all_snapshots, known_nights, snapshots_of


@pytest.fixture
def settings(tmp_path):
    return load_settings(home=tmp_path)


@pytest.fixture
def snapshot(settings):
    def make(name: str, created_at: str, source: str = "shop") -> None:
        folder = settings.snapshots_root / name
        folder.mkdir(parents=True)
        (folder / "snapshot.json").write_text(json.dumps({"created_at": created_at, "source": source}))

    return make


def names(folders):
    return [folder.name for folder in folders]


def test_a_night_has_the_last_snapshot_of_each_source(settings, snapshot):
    snapshot("a", "2026-11-20T01:00:00+00:00")
    snapshot("b", "2026-11-20T23:00:00+00:00")
    snapshot("c", "2026-11-20T22:00:00+00:00")
    snapshot("d", "2026-11-20T00:30:00+00:00", source="other")
    snapshot("e", "2026-11-21T00:00:00+00:00")
    assert names(snapshots_of(settings, date(2026, 11, 20))) == ["d", "b"]
    assert names(snapshots_of(settings, date(2026, 11, 21))) == ["e"]
    assert snapshots_of(settings, date(2026, 11, 19)) == []
    assert known_nights(settings) == [date(2026, 11, 20), date(2026, 11, 21)]


def test_the_day_is_in_utc_and_that_of_the_name_goes_first(settings, snapshot):
    snapshot("evening", "2026-11-20T23:30:00-05:00")
    snapshot("shop-2026-11-18-abcdef123456", "2026-11-20T12:00:00+00:00")
    snapshot("shop-2026-13-45-0", "2026-11-19T12:00:00Z")
    snapshot("shop-20261101123456", "2026-11-19T11:00:00Z")
    assert names(snapshots_of(settings, date(2026, 11, 21))) == ["evening"]
    assert names(snapshots_of(settings, date(2026, 11, 18))) == ["shop-2026-11-18-abcdef123456"]
    assert names(snapshots_of(settings, date(2026, 11, 19))) == ["shop-2026-13-45-0"]


def test_snapshots_are_in_order_of_time_and_unfinished_ones_are_none(settings, snapshot):
    snapshot("late", "2026-11-20T10:00:00+00:00")
    snapshot("early", "2026-11-20T11:00:00+02:00")  # as text it comes after the other
    snapshot(".import-1.partial", "2026-11-20T12:00:00+00:00")
    assert names(all_snapshots(settings)) == ["early", "late"]


def test_a_snapshot_without_a_time_is_named(settings, snapshot):
    snapshot("odd", "yesterday")
    with pytest.raises(CorruptArtifact, match=r"odd/snapshot\.json does not say"):
        snapshots_of(settings, date(2026, 11, 20))


def test_a_night_without_a_snapshot_is_passed_over_unless_it_must_be_there(settings, snapshot):
    for day in range(1, 10):
        snapshot(f"s{day}", f"2026-11-0{day}T01:00:00+00:00")
    report = ingest_night(settings, date(2026, 11, 20), LogProgress())
    assert (report.snapshots, report.reports, report.taken) == ((), (), 0)
    assert night_line(report) == "night 2026-11-20: no snapshot, nothing to ingest"
    with pytest.raises(NotFound, match=r"nights with one: 2026-11-03, .*2026-11-09 and 2 earlier ones"):
        ingest_night(settings, date(2026, 11, 20), LogProgress(), must=True)


def test_a_range_has_both_its_ends(settings):
    assert nights_between(date(2026, 2, 27), date(2026, 3, 1)) == [date(2026, 2, 27), date(2026, 2, 28),
                                                                   date(2026, 3, 1)]  # fmt: skip
    with pytest.raises(BadQuery, match="--from 2026-03-02 is after --to 2026-03-01"):
        backfill(settings, date(2026, 3, 2), date(2026, 3, 1), LogProgress())


def test_a_backfill_of_nights_without_snapshots_says_so(settings):
    report = backfill(settings, date(2026, 3, 1), date(2026, 3, 3), LogProgress())
    assert [night.ingest.night for night in report.nights] == ["2026-03-01", "2026-03-02", "2026-03-03"]
    assert (report.with_snapshot, report.taken, report.embedded) == (0, 0, 0)
