"""Maintenance without mercy (retention 0): what is pinned is read row by row afterwards, the rest is gone."""

import json
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from lookalike.contracts.errors import CorruptArtifact, LookalikeError
from lookalike.contracts.tables import CHANGES, EMBEDDINGS, SILVER
from lookalike.line import maintenance
from lookalike.line.maintenance import BuildUnreadable, maintain
from lookalike.storage.delta import DeltaTables
from lookalike.storage.delta_upkeep import TableUpkeep
from lookalike.storage.table_lock import only_writer

pytestmark = pytest.mark.slow


@pytest.fixture
def pinned(home):
    """Nights 1 to 4 are previous, live, candidate and a build; night 0 is nobody's, night 5 the newest."""
    nights = [home.night(number) for number in range(6)]
    versions = [home.release(f"r{number}", nights[number]) for number in range(4)]
    for version in (versions[1], versions[2]):
        home.registry.promote(version, "ada")
    home.registry.set_candidate(versions[3])
    build = home.settings.home / "builds" / "0123abcd"
    build.mkdir(parents=True)
    (build / "pinned.json").write_text(json.dumps({"table_versions": nights[4], "space": "s"}))
    home.nights = nights
    return home


def assert_kept(home, nights):
    for night in nights:
        for contract in (SILVER, EMBEDDINGS):
            version = home.nights[night][contract.name]
            assert home.read(contract, version) == home.rows[contract.name][version], (night, contract.name)


def assert_newest(home):
    for contract in (SILVER, EMBEDDINGS):
        assert home.read(contract) == home.rows[contract.name][home.nights[5][contract.name]]


def test_what_is_pinned_stays_readable_and_the_rest_goes(pinned, progress):
    home = pinned
    for _ in range(2):
        report = maintain(home.settings, progress)
    assert_newest(home)
    assert_kept(home, (1, 2, 3, 4))
    with pytest.raises(Exception, match=r"(?i)not found|no such"):
        home.read(SILVER, home.nights[0]["silver"])
    by = {pin.by for pin in report.pins}
    assert by == {"release 2 (previous)", "release 3 (live)", "release 4 (candidate)", "build 0123abcd"}
    silver = next(table for table in report.tables if table.table == "silver")
    assert silver.pinned == tuple(sorted(home.nights[night]["silver"] for night in (1, 2, 3, 4)))
    before = {name: home.tables.version(name) for name in ("silver", "embeddings", "ledger")}
    assert (
        sum(table.deleted.files + table.compacted.replaced for table in maintain(home.settings, progress).tables) == 0
    )
    assert before == {name: home.tables.version(name) for name in before}


@pytest.mark.parametrize("gone", ["release", "build"])
def test_without_its_pin_a_version_goes(pinned, progress, monkeypatch, gone):
    """The proof that the test above can fail: the guard taken out for one kind of pin."""
    home, real = pinned, maintenance.pins
    monkeypatch.setattr(
        maintenance, "pins", lambda *given: [pin for pin in real(*given) if not pin.by.startswith(gone)]
    )
    for _ in range(2):
        maintain(home.settings, progress)
    lost, kept = ((1, 2, 3), (4,)) if gone == "release" else ((4,), (1, 2, 3))
    assert_newest(home)
    assert_kept(home, kept)
    for night in lost:
        with pytest.raises(Exception, match=r"(?i)not found|no such"):
            home.read(SILVER, home.nights[night]["silver"])


def test_young_files_stay(pinned, progress):
    home = pinned
    settings = home.settings.model_copy(
        update={"maintenance": home.settings.maintenance.model_copy(update={"retention_hours": 1})}
    )
    for _ in range(2):
        maintain(settings, progress)
    assert_kept(home, range(6))


def test_a_build_that_says_no_versions_stops_everything(pinned, progress):
    home = pinned
    (home.settings.home / "builds" / "halfmade").mkdir()
    before = home.data_files("silver")
    with pytest.raises(BuildUnreadable, match=r"builds/halfmade holds no file that names its table_versions"):
        maintain(home.settings, progress)
    assert home.data_files("silver") == before


def test_a_pin_that_cannot_be_read_stops_before_anything_is_deleted(pinned, progress):
    home = pinned
    lost = home.nights[1]["silver"]
    log = Path(home.tables.uri("silver")) / "_delta_log" / f"{lost:020d}.json"
    log.unlink()
    before = home.data_files("silver")
    with pytest.raises(CorruptArtifact, match=f"version {lost} of table silver must stay readable"):
        maintain(home.settings, progress)
    assert home.data_files("silver") == before


def test_no_registry_no_deletion(pinned, progress):
    home = pinned
    (home.settings.home / "mlflow.db").write_bytes(b"no database at all")
    before = home.data_files("silver")
    with pytest.raises((LookalikeError, Exception), match=r"(?i)database|registry"):
        maintain(home.settings, progress)
    assert home.data_files("silver") == before


def test_a_table_is_tended_when_its_writer_is_done(pinned, progress):
    home, done = pinned, threading.Event()

    def work():
        maintain(home.settings, progress)
        done.set()

    with only_writer(home.settings.locks_root, "silver", "a merge"):
        worker = threading.Thread(target=work)
        worker.start()
        assert not done.wait(2)
        files = home.data_files("silver")
    worker.join(120)
    assert done.is_set() and files - home.data_files("silver")


def test_killed_anywhere_and_run_again_it_comes_to_the_same_end(pinned, progress, killed_upkeep):
    home = pinned
    delays = [0.03 * 1.5**number for number in range(11)]  # to 1.7 s: the first ones hit on the quickest machine too
    assert killed_upkeep("maintain", home.settings, delays) >= 3
    for _ in range(2):
        maintain(home.settings, progress)
    assert_newest(home)
    assert_kept(home, (1, 2, 3, 4))
    from deltalake import DeltaTable

    for name in ("silver", "embeddings"):
        held = {Path(path).name for night in (1, 2, 3, 4) for path in
                DeltaTable(home.tables.uri(name), version=home.nights[night][name]).file_uris()}  # fmt: skip
        held |= {Path(path).name for path in DeltaTable(home.tables.uri(name)).file_uris()}
        assert {path.name for path in home.data_files(name)} == held


APPENDER = """
    import sys
    import pyarrow as pa
    from datetime import UTC, datetime
    from lookalike.contracts.tables import CHANGES
    from lookalike.storage.delta import AppTransaction, DeltaTables
    tables = DeltaTables(sys.argv[1])
    for number in range(40):
        row = {"partition": 0, "offset": number, "origin_offset": number, "item_id": "i", "version": number,
               "kind": "delete", "event_time": datetime.now(UTC), "published_at": datetime.now(UTC), "state": "{}",
               "vectors": []}
        tables.append(CHANGES, pa.Table.from_pylist([row], schema=CHANGES.schema), AppTransaction("archive", number))
"""


def test_a_stream_that_archives_meanwhile_loses_nothing(tmp_path):
    """The archive takes no lock: its appends and the upkeep meet in Delta's own conflict check."""
    tables = DeltaTables(tmp_path)
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(APPENDER), str(tmp_path)])
    rounds = 0
    while child.poll() is None:
        if tables.exists("changes"):
            upkeep = TableUpkeep(tables, "changes", ())
            upkeep.keep_log()
            upkeep.vacuum(1, dry_run=False)
            rounds += upkeep.compact(2**20).replaced > 0
            upkeep.checkpoint()
        time.sleep(0.01)
    assert child.returncode == 0 and rounds > 1
    assert tables.read(CHANGES, columns=["offset"], order_by='"offset"')["offset"].to_pylist() == list(range(40))
