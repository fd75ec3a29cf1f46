"""Upkeep of a table: rows, constraints and kept versions stay as they were written, compared row by row."""

import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from lookalike.contracts.errors import CorruptArtifact, NotFound
from lookalike.contracts.tables import REFUSED, SILVER
from lookalike.storage.delta import KEEP_LOG, AppTransaction, DeltaTables
from lookalike.storage.delta_upkeep import TableUpkeep

DAY = 86_400
ORDER = "item_id, version"


def item(number, **changed):
    row = dict.fromkeys(SILVER.schema.names) | {
        "item_id": f"i{number:04d}", "version": 1, "title": f"thing {number}", "image_path": "p.png",
        "content_hash": f"{number:064d}", "width": 8, "height": 8, "price": 1.5, "source": "shop", "snapshot_id": "s",
        "deleted": False, "shard": number % 2, "attributes": [("colour", "red")], "keywords": [("de", ["Ding"])],
        "tags": ["a", "b"], "column_versions": [("price", 3)],
    }  # fmt: skip
    return row | changed


def items(*numbers, **changed):
    return pa.Table.from_pylist([item(number, **changed) for number in numbers], schema=SILVER.schema)


class Kept:
    """SILVER in many small commits; `rows` is what each version held when it was the newest."""

    def __init__(self, root: Path, rows=None) -> None:
        self.tables = DeltaTables(root)
        self.uri = self.tables.uri("silver")
        self.rows: dict[int, list] = rows or {}

    def write(self):
        self.tables.create(SILVER)
        for start in range(0, 60, 6):
            self.tables.append(SILVER, items(*range(start, start + 6)), AppTransaction("writer", start))
            self.note()
            if start % 12 == 0:
                DeltaTable(self.uri).delete(f"item_id >= 'i{start:04d}' AND item_id < 'i{start + 3:04d}'")
                self.note()
        return self.rows

    def note(self):
        self.rows[self.version] = self.read(self.version)

    @property
    def version(self):
        return self.tables.version("silver")

    def read(self, version):
        return self.tables.read(SILVER, version=version, order_by=ORDER).to_pylist()

    def upkeep(self, *keep):
        return TableUpkeep(self.tables, "silver", keep)

    def data_files(self):
        return {path for path in Path(self.uri).rglob("*.parquet") if "_delta_log" not in path.parts}

    def log_versions(self):
        return sorted(int(path.stem) for path in (Path(self.uri) / "_delta_log").glob("*.json") if path.stem.isdigit())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Made once, copied for each test."""
    root = tmp_path_factory.mktemp("written") / "tables"
    return root, Kept(root).write()


@pytest.fixture
def table(tmp_path, written):
    root, rows = written
    shutil.copytree(root, tmp_path / "tables")
    return Kept(tmp_path / "tables", rows)


def tend(upkeep, hours=0, now=None):
    upkeep.keep_log()
    deleted = upkeep.vacuum(hours, dry_run=False)
    compacted = upkeep.compact(2**20)
    upkeep.checkpoint()
    return deleted, compacted, upkeep.clean_log(hours, now or datetime.now(UTC) + timedelta(seconds=5), dry_run=False)


@pytest.mark.parametrize("guarded", [True, False])
def test_kept_versions_are_read_row_by_row_after_upkeep_without_mercy(table, guarded):
    kept, newest = (3, 8), table.version
    for _ in range(2):
        tend(table.upkeep(*(kept if guarded else ())))
    assert table.read(None) == table.rows[newest]
    for version in kept:
        if guarded:
            assert table.read(version) == table.rows[version]
        else:  # else nothing above would be proved
            with pytest.raises(Exception, match=r"(?i)not found|no such|log"):
                table.read(version)


def test_upkeep_of_upkeep_does_nothing(table):
    first = tend(table.upkeep(3))
    assert first[0].files and first[0].bytes and first[1].replaced > first[1].written
    tend(table.upkeep(3))  # takes the files that the first compaction replaced
    before = table.version
    deleted, compacted, log = tend(table.upkeep(3))
    assert (deleted.files, compacted.replaced, log.files) == (0, 0, 0)
    assert table.version == before


def test_a_dry_run_says_what_happens_and_does_nothing(table):
    files, version = table.data_files(), table.version
    told = table.upkeep(3).vacuum(0, dry_run=True)
    assert table.upkeep(3).compactable(2**20) > 0
    assert (table.data_files(), table.version) == (files, version)
    assert table.upkeep(3).vacuum(0, dry_run=False) == told
    assert len(files - table.data_files()) == told.files > 0


def test_compaction_keeps_schema_constraints_transactions_and_properties(table):
    before = DeltaTable(table.uri)
    upkeep = table.upkeep()
    assert not upkeep.keep_log()  # our own tables are made with it
    assert upkeep.compact(2**20).written == 2  # one per shard
    after = DeltaTable(table.uri)
    assert after.schema() == before.schema()
    assert after.metadata().configuration == before.metadata().configuration
    assert after.metadata().configuration[KEEP_LOG] == "false"
    assert after.transaction_version("writer") == 54
    with pytest.raises(Exception, match="1 rows failed validation check"):
        table.tables.append(SILVER, items(1, price=-1.0))
    assert not table.tables.append(SILVER, items(1), AppTransaction("writer", 54))


def test_age_is_since_a_file_left_the_table_and_only_strays_go_by_their_own(table):
    for path in table.data_files():
        os.utime(path, (time.time() - 40 * DAY,) * 2)  # long in the table, gone from it a moment ago
    old, young = (Path(table.uri) / "shard=0" / name for name in ("part-old.parquet", "part-young.parquet"))
    for path, age in ((old, 40 * DAY), (young, 60)):
        path.write_bytes(b"left by a writer that was killed")
        os.utime(path, (time.time() - age,) * 2)
    table.upkeep().vacuum(168, dry_run=False)
    assert not old.exists() and young.exists()
    for version, rows in table.rows.items():
        assert table.read(version) == rows


def test_the_log_goes_no_further_than_the_oldest_kept_version(table):
    upkeep = table.upkeep()
    assert upkeep.checkpoint() and not upkeep.checkpoint()
    checkpoint = table.version
    later = {}
    for number in range(100, 104):
        table.tables.append(SILVER, items(number))
        later[table.version] = table.read(None)
    soon = datetime.now(UTC) + timedelta(seconds=5)
    # Kept from before the checkpoint: the whole log is needed. Kept from after it: only what comes from there.
    assert table.upkeep(checkpoint - 1).clean_log(0, soon, dry_run=False).files == 0
    assert table.upkeep(checkpoint + 1).clean_log(168, soon, dry_run=False).files == 0  # too young
    would = table.upkeep(checkpoint + 1).clean_log(0, soon, dry_run=True)
    assert table.log_versions()[0] == 0
    assert table.upkeep(checkpoint + 1).clean_log(0, soon, dry_run=False) == would
    assert table.log_versions() == list(range(checkpoint, checkpoint + 5))
    assert {version: table.read(version) for version in later} == later
    assert DeltaTable(table.uri).transaction_version("writer") == 54


def test_a_clean_up_of_the_log_that_is_cut_off_leaves_a_whole_log(table):
    upkeep = table.upkeep()
    upkeep.checkpoint()
    rows = table.read(None)
    table.tables.append(SILVER, items(200))
    newest, store = table.read(None), upkeep._store
    left = 0

    class Cut(Exception):
        pass

    class Fragile:
        def __getattr__(self, name):
            return getattr(store, name)

        def delete_file(self, path):
            nonlocal left
            if left == 0:
                raise Cut
            left -= 1
            store.delete_file(path)

    soon = datetime.now(UTC) + timedelta(seconds=5)
    for left in (0, 1, 2, 3):  # noqa: B007 (read where files are deleted)
        cut = table.upkeep(table.version)
        cut.__dict__["_store"] = Fragile()
        with pytest.raises(Cut):
            cut.clean_log(0, soon, dry_run=False)
        versions = table.log_versions()
        assert versions == list(range(versions[0], versions[-1] + 1))
        assert table.read(None) == newest and table.read(table.version - 1) == rows
    table.upkeep(table.version).clean_log(0, soon, dry_run=False)
    assert table.log_versions()[0] == table.version - 1  # the checkpoint's


def test_a_kept_version_that_is_lost_is_an_error_and_nothing_is_touched(table):
    files = table.data_files()
    with pytest.raises(CorruptArtifact, match=r"version 999 of table silver must stay readable"):
        table.upkeep(999)
    with pytest.raises(NotFound, match="no Delta table"):
        TableUpkeep(table.tables, "bronze", ())
    assert table.data_files() == files


def test_versions_with_only_upkeep_between_them_have_the_same_rows(table):
    tables, start = table.tables, table.version
    tend(table.upkeep(start))
    assert table.version > start
    assert tables.same_rows("silver", start, table.version) and tables.same_rows("silver", start, start)
    tables.append(SILVER, items(300))
    assert not tables.same_rows("silver", start, table.version)
    assert not tables.same_rows("silver", table.version, start)
    assert not tables.same_rows("silver", 0, start)  # its log is gone, so nobody can tell


def test_a_partition_value_with_odd_characters(tmp_path):
    tables = DeltaTables(tmp_path)
    for number in range(3):
        row = {
            "snapshot_id": "a b:c/ü%20", "row_number": number, "source": "s", "item_id": None, "reason": "r",
            "detail": "d", "refused_at": datetime.now(UTC), "payload": "{}",
        }  # fmt: skip
        tables.append(REFUSED, pa.Table.from_pylist([row], schema=REFUSED.schema))
    kept = tables.version("refused")
    before = tables.read(REFUSED, order_by="row_number")
    for _ in range(2):
        done = tend(TableUpkeep(tables, "refused", ()))
    assert done[0].files == 3 and done[1].replaced == 0
    assert tables.read(REFUSED, order_by="row_number") == before and tables.version("refused") > kept
