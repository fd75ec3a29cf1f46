"""Small homes whose snapshots of several nights a test writes row by row."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lookalike.catalogue.snapshot import RECEIVED_SCHEMA
from lookalike.contracts.settings import load_settings
from lookalike.storage.delta import DeltaTables

ROOT = Path(__file__).parents[3]
JARS = ROOT / ".cache" / "spark-tests"
PATIENCE = 800
"""Seconds for one command: some twenty on a machine that is free."""


class NightHome:
    """A home with its own tables, pictures and snapshots; JARs are those of the checkout's cache."""

    def __init__(self, folder: Path, **sections) -> None:
        self.settings = load_settings(home=folder, spark={"master": "local[2]"}, **sections)
        self.settings.pictures_root.mkdir(parents=True, exist_ok=True)
        self.tables = DeltaTables(self.settings.tables_root)
        if not (folder / "jars").exists():
            (folder / "jars").symlink_to(JARS / "jars")

    def picture(self, seed: int) -> str:
        """A PNG of one colour with a corner of another; its path below the store."""
        path = self.settings.pictures_root / f"{seed}.png"
        if not path.exists():
            generator = np.random.default_rng(seed)
            pixels = np.empty((24, 24, 3), np.uint8)
            pixels[:] = generator.integers(0, 256, 3)
            pixels[:12, :8] = generator.integers(0, 256, 3)
            Image.fromarray(pixels).save(path)
        return path.name

    def snapshot(self, name: str, rows, created_at: str, complete: bool = True, source: str = "shop") -> Path:
        """A finished snapshot in one part."""
        folder = self.settings.snapshots_root / name
        folder.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows, RECEIVED_SCHEMA), folder / "part-00000.parquet")
        described = {
            "snapshot_id": name, "source": source, "complete": complete, "items": len(rows),
            "created_at": created_at, "content_sha256": hashlib.sha256(repr(rows).encode()).hexdigest(),
        }  # fmt: skip
        (folder / "snapshot.json").write_text(json.dumps(described))
        return folder

    def copy(self, folder: Path) -> "NightHome":
        """Everything but the JARs, which stay shared."""
        shutil.copytree(self.settings.home, folder, symlinks=True)
        return NightHome(folder)

    def command(self, *arguments: str) -> list[str]:
        """The real command line on this home, local[2]."""
        base = [sys.executable, "-m", "lookalike.cli", "--home", str(self.settings.home), "--json"]
        return [*base, "--set", "spark.master=local[2]", *arguments]

    def run(self, *arguments: str, expect: int = 0):
        """Run the real command line to its end: the document of stdout (None without one), and stderr."""
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=PATIENCE, cwd=self.settings.home.parent
        )
        assert done.returncode == expect, f"{arguments}: exit {done.returncode}\n{done.stderr[-4000:]}"
        return (json.loads(done.stdout) if done.stdout.strip() else None), done.stderr


def night_row(item_id: str, version: int, picture: str, **changed) -> dict:
    """A row as received: numbers as text."""
    row = {
        "item_id": item_id, "version": str(version), "title": f"{item_id} v{version}", "image_path": picture,
        "brand": "acme", "category_path": ["things"], "tags": ["t"], "price": f"{version}.50", "stock": "3",
        "attributes": [("colour", "red")], "keywords": [("de", ["Ding"])], "synthetic": [],
    }  # fmt: skip
    return row | changed


@pytest.fixture
def make_night_home(tmp_path):
    def make(name: str = "home", **sections) -> NightHome:
        (tmp_path / name).mkdir()
        return NightHome(tmp_path / name, **sections)

    return make


@pytest.fixture(scope="session")
def row():
    return night_row
