"""`catalogue import`: a Delta table is opened without a JVM, a file or a glob goes to the readers."""

import pyarrow as pa
import pyarrow.csv
from deltalake import write_deltalake
from PIL import Image

from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import load_settings
from lookalike.line.imports import import_path
from lookalike.line.snapshots import all_snapshots, find_snapshot


def test_a_delta_table_becomes_a_snapshot(tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    table = pa.table(
        {
            "sku": ["a", "b"],
            "name": ["Red thing", "Other"],
            "photo": [str(tmp_path / "red.png")] * 2,
            "colour": ["red", None],
        }
    )
    write_deltalake(tmp_path / "shop", table.slice(0, 1))
    write_deltalake(tmp_path / "shop", table.slice(1), mode="append")
    (tmp_path / "map.toml").write_text('[columns]\nitem_id = "sku"\ntitle = "name"\nimage_path = "photo"\n')
    settings = load_settings(home=tmp_path / "home")
    progress = LogProgress()
    snapshot = import_path(settings, str(tmp_path / "shop"), tmp_path / "map.toml", "shop", True, progress)
    rows = sorted(snapshot.rows(), key=lambda row: row["item_id"])
    assert [(row["item_id"], row["title"]) for row in rows] == [("a", "Red thing"), ("b", "Other")]
    assert dict(rows[0]["attributes"]) == {"colour": "red"}
    assert all_snapshots(settings) == [snapshot.folder] == [find_snapshot(settings, snapshot.snapshot_id)]


def test_a_file_and_a_glob_give_the_same_rows(tmp_path):
    columns = {"item_id": ["a"], "title": ["Red thing"], "image_path": ["red.png"]}
    pyarrow.csv.write_csv(pa.table(columns), tmp_path / "shop.csv")
    for number, path in enumerate((tmp_path / "shop.csv", tmp_path / "*.csv")):
        settings = load_settings(home=tmp_path / f"home{number}")
        snapshot = import_path(settings, str(path), None, "shop", False, LogProgress())
        assert [(row["item_id"], row["title"]) for row in snapshot.rows()] == [("a", "Red thing")]
