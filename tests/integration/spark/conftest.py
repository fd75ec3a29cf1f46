"""Homes with small pictures, and snapshots whose every row a test chooses."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lookalike.catalogue.snapshot import RECEIVED_SCHEMA
from lookalike.contracts.settings import load_settings
from lookalike.storage.delta import DeltaTables

LIMITS = {"max_picture_pixels": 4_096, "max_picture_bytes": 10_000}


def settings_of(home: Path, **sections):
    return load_settings(home=home, spark={"master": "local[2]"}, intake=LIMITS, **sections)


class Home:
    """A home with its own tables, pictures and snapshots."""

    def __init__(self, folder: Path, **sections) -> None:
        self.settings = settings_of(folder, **sections)
        self.settings.pictures_root.mkdir(parents=True, exist_ok=True)
        self.tables = DeltaTables(self.settings.tables_root)

    def picture(self, seed: int, size: int = 24, name: str | None = None) -> str:
        """A PNG of one colour with a corner of another; its path below the store."""
        generator = np.random.default_rng(seed)
        pixels = np.empty((size, size, 3), np.uint8)
        pixels[:] = generator.integers(0, 256, 3)
        pixels[: size // 2, : size // 3] = generator.integers(0, 256, 3)
        path = self.settings.pictures_root / (name or f"{seed}.png")
        Image.fromarray(pixels).save(path)
        return path.name

    def sha256(self, name: str) -> str:
        return hashlib.sha256((self.settings.pictures_root / name).read_bytes()).hexdigest()

    def snapshot(self, name: str, rows, created_at: str, complete: bool = False, source: str = "shop") -> Path:
        """A finished snapshot in two parts."""
        folder = self.settings.snapshots_root / name
        folder.mkdir(parents=True)
        half = len(rows) // 2
        for number, part in enumerate((rows[:half], rows[half:])):
            pq.write_table(pa.Table.from_pylist(part, RECEIVED_SCHEMA), folder / f"part-{number:05d}.parquet")
        described = {
            "snapshot_id": name, "source": source, "complete": complete, "items": len(rows),
            "created_at": created_at, "content_sha256": hashlib.sha256(repr(rows).encode()).hexdigest(),
        }  # fmt: skip
        (folder / "snapshot.json").write_text(json.dumps(described))
        return folder

    def versions(self) -> dict[str, int]:
        return {name: self.tables.version(name) for name in ("bronze", "silver", "embeddings", "refused")}


def good_row(number: int, picture: str, **changed) -> dict:
    """A good row; numbers as text, as they are received."""
    good = {
        "item_id": f"i{number}", "version": "1", "title": f"thing {number}", "image_path": picture, "brand": "acme",
        "category_path": ["things", "small"], "tags": ["t"], "price": "1.50", "stock": "3",
        "attributes": [("colour", "red")], "keywords": [("de", ["Ding"])], "synthetic": ["price"],
    }  # fmt: skip
    return good | changed


@pytest.fixture(scope="session")
def row():
    return good_row


@pytest.fixture(scope="session")
def home_class():
    return Home


@pytest.fixture
def make_home(tmp_path):
    def make(name: str = "home", copy_of: Path | None = None, **sections) -> Home:
        if copy_of is not None:
            shutil.copytree(copy_of, tmp_path / name)
        return Home(tmp_path / name, **sections)

    return make
