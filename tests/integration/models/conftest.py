"""A tiny snapshot of drawn shapes in three trained brands, and tiny checkpoints saved by the real libraries."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw

from models.dataset import snapshot_schema

SHAPES = ("ellipse", "rectangle", "line", "pieslice")
COLOURS = ("red", "green", "blue", "orange", "purple", "black")
BRANDS = ("openmoji", "twemoji", "noto")


def draw_product(shape: str, colour: str, brand: int) -> Image.Image:
    picture = Image.new("RGBA", (48, 48), (255, 255, 255, 0))
    pen, box = ImageDraw.Draw(picture), (6 + brand, 6, 42 - 2 * brand, 42 - brand)
    if shape == "line":
        pen.line(box, fill=colour, width=6 + 2 * brand)
    elif shape == "pieslice":
        pen.pieslice(box, 20, 250, fill=colour)
    else:
        getattr(pen, shape)(box, fill=colour)
    return picture


@pytest.fixture(scope="session")
def shape_snapshot(tmp_path_factory) -> Path:
    """snapshot/part-00000.parquet and pictures/ below one folder; 24 concepts in three brands."""
    home = tmp_path_factory.mktemp("shapes")
    (home / "pictures").mkdir()
    rows = []
    for number, (shape, colour) in enumerate((s, c) for s in SHAPES for c in COLOURS):
        for place, brand in enumerate(BRANDS):
            name = f"{brand}-{number}.png"
            draw_product(shape, colour, place).save(home / "pictures" / name)
            rows.append(
                {
                    "item_id": f"{brand}:{shape}-{colour}",
                    "title": f"{colour} {shape}",
                    "image_path": name,
                    "brand": brand,
                    "group_id": f"{shape}-{colour}",
                    "category_path": ["shapes", shape],
                    "tags": [shape, colour],
                    "keywords": {"en": [f"{colour} thing"], "de": ["Ding"]},
                }
            )
    (home / "snapshot").mkdir()
    pq.write_table(pa.Table.from_pylist(rows, snapshot_schema()), home / "snapshot" / "part-00000.parquet")
    return home
