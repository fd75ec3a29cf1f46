"""Snapshots into tables: what is refused and why, idempotence, latest wins in any order, withdrawal."""

import numpy as np
import pytest
from PIL import Image

from lookalike.contracts.progress import LogProgress
from lookalike.contracts.tables import BRONZE, REFUSED, SILVER
from spark import ingest as job
from spark import tables

pytestmark = pytest.mark.slow

NOON = "2026-01-01T12:00:00+00:00"
LATER = "2026-01-02T12:00:00+00:00"
LAST = "2026-01-03T12:00:00+00:00"
FAR = str(10**14)  # ms: the year 5138
GOOD = 228


def plant_faults(home, row):
    """228 good rows and 12 bad ones of every kind (5 %): the rows, and reason by row number."""
    store = home.settings.pictures_root
    rows = [row(i, home.picture(i)) for i in range(GOOD)]
    whole = (store / home.picture(900, size=60)).read_bytes()
    (store / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (store / "text.png").write_bytes(b"<html>not found</html>")
    Image.new("RGB", (8, 8)).save(store / "icon.ico")
    home.picture(901, size=65, name="large.png")
    noise = np.random.default_rng(1).integers(0, 256, (63, 63, 3), dtype=np.uint8)
    Image.fromarray(noise).save(store / "heavy.png")
    assert (store / "heavy.png").stat().st_size > 10_000
    bad = [
        (row(300, "truncated.png"), "picture_unreadable"),
        (row(301, "icon.ico"), "picture_format"),
        (row(302, "text.png"), "picture_format"),
        (row(303, "large.png"), "picture_too_many_pixels"),
        (row(304, "heavy.png"), "picture_too_many_bytes"),
        (row(305, "nowhere.png"), "picture_missing"),
        (row(306, "0.png", item_id=None), "missing_id"),
        (row(7, "0.png", version="0"), "duplicate_id"),
        (row(308, "0.png", title="  "), "empty_title"),
        (row(309, "0.png", price="-1"), "bad_price"),
        (row(310, "0.png", version=FAR), "future_version"),
        (row(311, "0.png", stock="many"), "bad_value"),
    ]
    expected = {}
    for place, (bad_row, reason) in enumerate(bad):
        rows.insert(place * 20, bad_row)
        expected[place * 20] = reason
    return rows, expected


def test_a_twentieth_of_bad_rows_is_refused_with_reasons_and_the_rest_taken(spark_session, make_home, row):
    home = make_home()
    rows, expected = plant_faults(home, row)
    folder = home.snapshot("first", rows, NOON)
    assert not job.is_done(home.settings, folder)
    report = job.ingest(spark_session, home.settings, folder, LogProgress())
    refused = home.tables.read(REFUSED).to_pylist()
    assert {each["row_number"]: each["reason"] for each in refused} == expected
    for each in refused:
        assert each["detail"]
        assert each["snapshot_id"] == "first"
        assert each["item_id"] == rows[each["row_number"]]["item_id"]
        assert f'"{rows[each["row_number"]]["image_path"]}"' in each["payload"]
    assert (report.received, report.taken, report.unchanged, report.withdrawn) == (240, GOOD, 0, 0)
    assert sum(report.refused.values()) == 12
    assert report.refused["picture_format"] == 2
    silver = {each["item_id"]: each for each in home.tables.read(SILVER).to_pylist()}
    assert set(silver) == {f"i{i}" for i in range(GOOD)}
    seventh = silver["i7"]
    assert (seventh["version"], seventh["price"], seventh["stock"], seventh["deleted"]) == (1, 1.5, 3, False)
    assert seventh["content_hash"] == home.sha256("7.png")
    assert (seventh["width"], seventh["height"], seventh["title"]) == (24, 24, "thing 7")
    assert dict(seventh["attributes"]) == {"colour": "red"}
    assert home.tables.count(BRONZE) == 240
    assert job.is_done(home.settings, folder)

    versions = home.versions()
    again = job.ingest(spark_session, home.settings, folder, LogProgress())
    assert again.taken == 0
    assert home.versions() == versions


def test_a_run_that_died_before_its_last_write_is_completed_by_the_next(spark_session, make_home, row, monkeypatch):
    home = make_home()
    rows = [row(i, home.picture(i)) for i in range(6)] + [row(9, "nowhere.png"), row(3, "3.png", title="twin")]
    folder = home.snapshot("first", rows, NOON)
    append = tables.append_once

    def die_at_refused(frame, settings, contract, transaction):
        if contract is REFUSED:
            raise KeyboardInterrupt
        append(frame, settings, contract, transaction)

    monkeypatch.setattr(tables, "append_once", die_at_refused)
    with pytest.raises(KeyboardInterrupt):
        job.ingest(spark_session, home.settings, folder, LogProgress())
    assert not job.is_done(home.settings, folder)
    silver = home.tables.read(SILVER, order_by="item_id")
    assert silver.num_rows == 6
    monkeypatch.setattr(tables, "append_once", append)
    job.ingest(spark_session, home.settings, folder, LogProgress())
    assert job.is_done(home.settings, folder)
    assert home.tables.read(SILVER, order_by="item_id") == silver
    assert home.tables.count(BRONZE) == 8
    refused = home.tables.read(REFUSED, order_by="row_number").to_pylist()
    assert [(each["row_number"], each["reason"]) for each in refused] == [(6, "picture_missing"), (7, "duplicate_id")]


def test_the_latest_version_wins_whatever_the_order(spark_session, make_home, row):
    held = {}
    for order in ("forward", "backward"):
        home = make_home(order)
        pictures = [home.picture(i) for i in range(8)]
        first = [row(i, pictures[i], version="5", title=f"first {i}") for i in range(6)]
        second = [row(i, pictures[7 - i], version=str(4 + i % 3), title=f"second {i}") for i in range(2, 8)]
        folders = [home.snapshot("a", first, NOON), home.snapshot("b", second, LATER)]
        for folder in folders if order == "forward" else reversed(folders):
            job.ingest(spark_session, home.settings, folder, LogProgress())
        held[order] = {
            each["item_id"]: (each["version"], each["title"], each["image_path"], each["deleted"])
            for each in home.tables.read(SILVER).to_pylist()
        }
        expected: dict = {}
        for each in first + second:
            if each["item_id"] not in expected or int(each["version"]) > expected[each["item_id"]][0]:
                expected[each["item_id"]] = (int(each["version"]), each["title"], each["image_path"], False)
        assert expected["i4"][:2] == (5, "first 4")  # version 5 in both snapshots: the earlier one's stays
        assert held[order] == expected


def test_a_complete_snapshot_withdraws_what_it_does_not_name(spark_session, make_home, row):
    home = make_home()
    rows = [row(i, home.picture(i)) for i in range(4)]
    other = home.snapshot("other", [row(50, home.picture(50))], NOON, complete=True, source="elsewhere")
    full = home.snapshot("full", rows, NOON, complete=True)
    lesser = home.snapshot("lesser", [rows[0], rows[1], row(2, "nowhere.png", version="9")], LATER, complete=True)
    back = home.snapshot("back", [rows[3]], LAST)
    reports = [job.ingest(spark_session, home.settings, f, LogProgress()) for f in (other, full, lesser)]
    assert [report.withdrawn for report in reports] == [0, 0, 1]
    assert deleted(home) == {"i3"}  # i2's new picture was refused: it is still named, and keeps its old version
    report = job.ingest(spark_session, home.settings, back, LogProgress())
    assert (report.taken, report.withdrawn) == (1, 0)
    assert deleted(home) == set()
    late = home.snapshot("late", [rows[0]], "2025-12-31T12:00:00+00:00", complete=True)
    assert job.ingest(spark_session, home.settings, late, LogProgress()).withdrawn == 0
    assert deleted(home) == set()


def deleted(home) -> set[str]:
    return set(home.tables.read(SILVER, ["item_id"], where="deleted")["item_id"].to_pylist())
