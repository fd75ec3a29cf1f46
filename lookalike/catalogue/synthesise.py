"""`catalogue synthesise`: any number of further products composed of real pictures, for scale and load.

A product shows one or two real ones on a background, scaled, turned and recoloured; its caption says what is on it and
its group_id is exactly what was composed, so the ground truth is exact. Item i depends on the seed and i alone: parts
are independent, a killed run continues, and N + 1 items begin with the N of a smaller run.
"""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lookalike.catalogue.generated import generated_offer
from lookalike.catalogue.icons import icons_config
from lookalike.catalogue.pictures import store_picture
from lookalike.catalogue.snapshot import Snapshot, SnapshotWriter, read_snapshot
from lookalike.catalogue.workers import worker_count, worker_pool
from lookalike.contracts.errors import BadQuery
from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings

ITEMS_PER_PART = 2_000
_SIDE = 128
_PAIR_SHARE = 0.3
_MIN_FOR_POOL = 200
_COLUMNS = [
    "title",
    "image_path",
    "category_path",
    "tags",
    "group_id",
    "licence",
    "licence_url",
    "author",
    "author_url",
]
_BACKGROUNDS = {
    "white": (255, 255, 255), "grey": (200, 200, 200), "black": (20, 20, 20), "red": (214, 69, 65),
    "orange": (240, 150, 60), "yellow": (250, 220, 100), "green": (110, 180, 110), "blue": (90, 140, 220),
    "purple": (150, 100, 190), "pink": (245, 180, 200), "brown": (140, 100, 70),
}  # fmt: skip
_RECOLOURED = ("", "", "colour-shifted ", "grey ", "pale ")


@dataclass(frozen=True)
class Composition:
    """What one synthetic product shows; drawn from the seed and the item's number."""

    bases: tuple[int, ...]  # rows of the base snapshot, left to right
    scales: tuple[float, ...]
    degrees: tuple[float, ...]
    recolour: str
    hue: float
    background: str


def synthesise(settings: Settings, items: int, seed: int, progress: Progress, base: Path) -> Snapshot:
    """Compose `items` products from the pictures of the snapshot in folder `base` and write them as a snapshot.

    Memory: the base snapshot's rows and one part. Raises NotFound or CorruptArtifact for the base, BadQuery when it is
    empty or not made of pictures in the picture store.
    """
    if items < 1:
        raise BadQuery(f"items = {items}: allowed is a number from 1")
    snapshot = read_snapshot(base)
    usable = sum(1 for _ in base_rows(base))
    if usable == 0:
        raise BadQuery(f"snapshot {base} has no rows with a picture in the picture store and a group_id: take another")
    source = f"synthetic:{seed}:{snapshot.content_sha256[:8]}"
    writer = SnapshotWriter(settings.snapshots_root, f"{source}-{items}")
    parts = range(-(-items // ITEMS_PER_PART))
    todo = [part for part in parts if not writer.has(part)]
    jobs = [(part, *_range(part, items), seed, str(base), str(settings.pictures_root)) for part in todo]
    with progress.step("synthesise", total=items) as step:
        step.advance(items - sum(job[2] - job[1] for job in jobs))
        for part, rows in _composed(jobs, items):
            writer.write(part, rows)
            step.advance(len(rows))
    return writer.finish(source, complete=False)


def compose(number: int, seed: int, bases: int) -> Composition:
    """The composition of item `number` over a base of `bases` rows."""
    chance = np.random.default_rng([seed, number])
    count = 2 if bases > 1 and chance.random() < _PAIR_SHARE else 1
    return Composition(
        bases=tuple(int(row) for row in chance.choice(bases, size=count, replace=False)),
        scales=tuple(float(value) for value in chance.uniform(0.6, 1.0, size=count)),
        degrees=tuple(float(value) for value in chance.normal(0, 20, size=count)),
        recolour=str(chance.choice(_RECOLOURED)),
        hue=float(chance.uniform(0.15, 0.85)),
        background=str(chance.choice(list(_BACKGROUNDS))),
    )


def draw(composition: Composition, pictures: list[Image.Image]) -> Image.Image:
    """The picture, RGB, 128 x 128: each base picture (RGBA) fitted into its half, or the whole for a single one."""
    canvas = Image.new("RGBA", (_SIDE, _SIDE), (*_BACKGROUNDS[composition.background], 255))
    cell = _SIDE // len(pictures)
    for place, picture in enumerate(pictures):
        side = max(8, round(composition.scales[place] * cell))
        turned = _recoloured(picture, composition).rotate(
            composition.degrees[place], resample=Image.Resampling.BICUBIC, expand=True
        )
        turned.thumbnail((side, side), Image.Resampling.BILINEAR)
        left = place * cell + (cell - turned.width) // 2
        canvas.alpha_composite(turned, (left, (_SIDE - turned.height) // 2))
    return canvas.convert("RGB")


def picture_of(composition: Composition, shown: list[dict[str, Any]], root: Path) -> Image.Image:
    """The composition drawn from the stored pictures below `root` of the base rows that it shows."""
    return draw(composition, [_picture(root, row["image_path"]) for row in shown])


def title_of(composition: Composition, shown: list[dict[str, Any]]) -> str:
    """What the picture shows, in words."""
    caption = " and ".join(f"{composition.recolour}{row['title']}" for row in shown)
    return f"{caption} on {composition.background}"


def base_rows(base: Path) -> Iterator[dict[str, Any]]:
    """Rows whose picture lies in the picture store and whose group is known: only these give exact ground truth."""
    for row in read_snapshot(base).rows(_COLUMNS):
        path = row["image_path"]
        if path and row["group_id"] and row["title"] and "://" not in path and not Path(path).is_absolute():
            yield row


def _recoloured(picture: Image.Image, composition: Composition) -> Image.Image:
    if composition.recolour == "":
        return picture
    alpha, rgb = picture.getchannel("A"), picture.convert("RGB")
    if composition.recolour == "pale ":
        rgb = Image.blend(rgb, Image.new("RGB", rgb.size, (255, 255, 255)), 0.5)
    elif composition.recolour == "grey ":
        rgb = rgb.convert("L").convert("RGB")
    else:
        rgb = rgb.convert("RGB", _hue_turn(composition.hue))
    rgb.putalpha(alpha)
    return rgb


def _hue_turn(part: float) -> tuple[float, ...]:
    """Rotation of RGB about the grey axis by `part` of a full turn (Rodrigues' formula), as Pillow's 3 x 4 matrix."""
    angle = 2 * math.pi * part
    same = math.cos(angle) + (1 - math.cos(angle)) / 3
    before = (1 - math.cos(angle)) / 3 - math.sin(angle) / math.sqrt(3)
    after = (1 - math.cos(angle)) / 3 + math.sin(angle) / math.sqrt(3)
    return (same, before, after, 0, after, same, before, 0, before, after, same, 0)


def _composed(jobs: list[Any], items: int) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    workers = min(len(jobs), worker_count())
    if workers < 2 or items < _MIN_FOR_POOL:
        yield from map(_part, jobs)
        return
    with worker_pool(workers) as pool:
        # A few waves at a time: results of all parts at once would not be constant memory.
        for start in range(0, len(jobs), workers):
            yield from pool.map(_part, jobs[start : start + workers])


def _part(job: tuple[int, int, int, int, str, str]) -> tuple[int, list[dict[str, Any]]]:
    part, first, end, seed, base, pictures_root = job
    rows = _base_rows(base)
    return part, [_item(number, seed, rows, Path(pictures_root)) for number in range(first, end)]


def _item(number: int, seed: int, rows: tuple[dict[str, Any], ...], root: Path) -> dict[str, Any]:
    composition = compose(number, seed, len(rows))
    shown = [rows[row] for row in composition.bases]
    buffer = io.BytesIO()
    picture_of(composition, shown, root).save(buffer, "PNG")
    item_id = f"synthetic:{seed}:{number}"
    tags = dict.fromkeys(tag for row in shown for tag in row["tags"] or ())
    described = {"composed_of": "+".join(row["group_id"] for row in shown), "background": composition.background}
    offer = generated_offer(item_id, seed, icons_config().currency)
    return {
        "item_id": item_id,
        "version": 1,
        "title": title_of(composition, shown),
        "image_path": store_picture(root, buffer.getvalue(), ".png"),
        "brand": "synthetic",
        "category_path": shown[0]["category_path"],
        "tags": list(tags),
        # Order does not change what is shown.
        "group_id": "+".join(sorted(row["group_id"] for row in shown)),
        **{column: _joined(shown, column) for column in ("licence", "licence_url", "author", "author_url")},
        "attributes": list(described.items()),
        **offer,
        "synthetic": ["title", "image_path", *offer["synthetic"]],
    }


def _joined(shown: list[dict[str, Any]], column: str) -> str | None:
    return " + ".join(dict.fromkeys(row[column] for row in shown if row[column])) or None


def _range(part: int, items: int) -> tuple[int, int]:
    return part * ITEMS_PER_PART, min(items, (part + 1) * ITEMS_PER_PART)


@lru_cache(maxsize=1)
def _base_rows(base: str) -> tuple[dict[str, Any], ...]:
    return tuple(base_rows(Path(base)))


@lru_cache(maxsize=4_096)
def _picture(root: Path, path: str) -> Image.Image:
    with Image.open(root / path) as image:
        return image.convert("RGBA")
