"""`catalogue import --night`: an old export belongs to its own day, and the later import of a night is its last."""

import csv
import json
import shutil
import sys
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from lookalike.catalogue import importer
from lookalike.cli.main import main
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import load_settings
from lookalike.contracts.tables import BRONZE
from lookalike.line.imports import NightFull, import_path, night_of
from lookalike.line.snapshots import find_snapshot, known_nights, snapshots_of
from lookalike.storage.delta import DeltaTables

NIGHT = date(2026, 1, 20)
NEXT = NIGHT + timedelta(days=1)


@pytest.fixture
def settings(tmp_path):
    return load_settings(home=tmp_path / "home")


@pytest.fixture
def bring(settings, tmp_path):
    """Import rows (title, and a version where given) of one night, or of today."""

    def bring(day, *titles, version=None, source="shop", complete=True):
        path = tmp_path / f"export-{'-'.join(titles)}.csv"
        if not path.exists():  # an import that goes on finds its file untouched
            with path.open("w", newline="") as file:
                rows = csv.writer(file)
                rows.writerow(["item_id", "title", "image_path", *(["version"] if version else [])])
                rows.writerows([title[0], title, "a.png", *([version] if version else [])] for title in titles)
        return import_path(settings, str(path), None, source, complete, LogProgress(), day)

    return bring


def day_of(snapshot):
    return datetime.fromisoformat(snapshot.created_at).astimezone(UTC).date()


def versions(snapshot):
    return {int(row["version"]) for row in snapshot.rows()}


def test_an_old_export_is_of_its_own_night_and_one_without_a_night_of_today(settings, bring):
    old, new = bring(NIGHT, "apple"), bring(None, "pear")
    assert snapshots_of(settings, NIGHT) == [old.folder] and day_of(old) == NIGHT
    assert "2026-01-20" in old.snapshot_id and find_snapshot(settings, None) == new.folder
    assert known_nights(settings) == [NIGHT, day_of(new)]
    assert versions(old) == {round(datetime.fromisoformat(old.created_at).timestamp() * 1000)}


def test_the_later_import_of_a_night_is_its_last_and_has_newer_rows(settings, bring):
    following = bring(NEXT, "apple")
    brought = [bring(NIGHT, f"apple {number}") for number in range(3)]
    assert snapshots_of(settings, NIGHT) == [brought[2].folder]
    moments = [each.created_at for each in (*brought, following)]
    assert moments == sorted(set(moments)) and {day_of(each) for each in brought} == {NIGHT}
    rows = [version for each in (*brought, following) for version in versions(each)]
    assert rows == sorted(set(rows))  # though the export of the following night was imported first


def test_it_comes_after_what_the_day_itself_brought(settings, bring):
    made = bring(NIGHT, "apple").folder / "snapshot.json"
    said = json.loads(made.read_text()) | {"created_at": "2026-01-20T23:59:58+00:00"}
    made.write_text(json.dumps(said))
    later = bring(NIGHT, "pear")
    assert later.created_at == "2026-01-20T23:59:58.001+00:00" and snapshots_of(settings, NIGHT) == [later.folder]
    made.write_text(json.dumps(said | {"created_at": "2026-01-20T23:59:59.999+00:00"}))
    with pytest.raises(NightFull, match="2026-01-20 has a snapshot made at"):
        bring(NIGHT, "plum")


def test_it_comes_after_what_only_the_tables_know_any_more(settings, bring):
    first = bring(NIGHT, "apple")
    row = {
        "snapshot_id": first.snapshot_id, "row_number": 0, "source": "shop",
        "received_at": datetime.fromisoformat(first.created_at), "payload": "{}",
    }  # fmt: skip
    DeltaTables(settings.tables_root).append(BRONZE, pa.Table.from_pylist([row], schema=BRONZE.schema))
    shutil.rmtree(first.folder)
    assert bring(NIGHT, "pear").created_at > first.created_at


def test_the_same_rows_again_are_the_same_snapshot_unless_others_came_between(settings, bring):
    first = bring(NIGHT, "apple", version=5)
    assert bring(NIGHT, "apple", version=5) == first
    elsewhere = bring(NEXT, "apple", version=5)
    assert elsewhere.snapshot_id != first.snapshot_id and day_of(elsewhere) == NEXT
    other = bring(NIGHT, "apple", "pear", version=5)
    back = bring(NIGHT, "apple", version=5)
    assert snapshots_of(settings, NIGHT) == [back.folder] and back.created_at > other.created_at
    assert bring(NIGHT, "apple", version=5) == back


@pytest.mark.parametrize("source", ["shop-2025-12-31", "s" * 100, "shop-2026-01"])
def test_the_name_of_a_source_does_not_hide_the_night(settings, bring, source):
    brought = bring(NIGHT, "apple", source=source)
    assert known_nights(settings) == [NIGHT] and snapshots_of(settings, NIGHT) == [brought.folder]


def test_a_source_named_by_a_month_is_no_night(settings, bring):
    folder = bring(None, "apple", source="shop-2026-01").folder
    folder.rename(folder.with_name("shop-2026-01-20abcdef0123"))  # a digest may begin with two digits
    assert known_nights(settings) != [NIGHT]


def test_a_killed_import_goes_on_with_its_moment_and_others_come_after_it(settings, bring, monkeypatch):
    monkeypatch.setattr(importer.SnapshotWriter, "finish", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bring(NIGHT, "apple")
    monkeypatch.undo()
    other = bring(NIGHT, "pear")
    killed = bring(NIGHT, "apple")
    assert killed.created_at < other.created_at and snapshots_of(settings, NIGHT) == [other.folder]
    (version,) = versions(killed)
    assert version == round(datetime.fromisoformat(killed.created_at).timestamp() * 1000)


def test_the_night_that_is_not_over_has_its_present_moment(settings):
    now = datetime(2026, 1, 20, 9, 30, 1, 234_567, tzinfo=UTC)
    assert night_of(settings, NIGHT, "shop", now).at == now.replace(microsecond=234_000)
    assert night_of(settings, NIGHT, "shop", now + timedelta(days=9)).at.date() == NIGHT


@pytest.mark.parametrize(
    ("night", "said"),
    [("20th", "write the UTC day like 2026-11-20"), ("2999-01-01", "the night 2999-01-01 has not begun")],
)
def test_no_date_and_the_future_are_exit_2(tmp_path, monkeypatch, capsys, night, said):
    (tmp_path / "shop.csv").write_text("item_id,title,image_path\na,Apple,a.png\n")
    words = ["--home", str(tmp_path / "home"), "catalogue", "import", str(tmp_path / "shop.csv"), "--night", night]
    monkeypatch.setattr(sys, "argv", ["lookalike", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "home" / "snapshots").exists()
