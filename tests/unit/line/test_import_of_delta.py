"""`catalogue import` of a Delta table: opened without a JVM, unknown columns become attributes, pictures are found."""

import pyarrow as pa
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
