"""Training data from a catalogue snapshot: pictures in memory as uint8 RGBA, texts by concept, held-out ones left out.

A concept is a `group_id`; without two brands showing it, a row still teaches through its texts.
"""

import io
from collections import defaultdict
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from lookalike.contracts.errors import NotFound
from lookalike.contracts.progress import Progress
from models.preparation import fit_image

COLUMNS = ("item_id", "title", "image_path", "brand", "group_id", "category_path", "tags", "keywords")
LANGUAGE = "en"
_DECODE_THREADS = 2


@dataclass(frozen=True)
class Row:
    """What training and the protocol need of one product."""

    item_id: str
    title: str
    image_path: str
    brand: str
    concept: str
    category: str
    tags: tuple[str, ...]
    keywords: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """Tags and English keywords, each once."""
        return tuple(dict.fromkeys((*self.tags, *self.keywords)))


def read_rows(snapshot: Path) -> list[Row]:
    """Rows of a snapshot folder that name a brand and a group, in the order of item_id."""
    parts = sorted(snapshot.glob("part-*.parquet"))
    if not parts:
        raise NotFound(f"{snapshot} holds no part-*.parquet; make a snapshot with `lookalike catalogue fetch icons`")
    records: list[dict[str, Any]] = []
    for part in parts:
        present = [column for column in COLUMNS if column in pq.read_schema(part).names]
        records += pq.read_table(part, columns=present).to_pylist(maps_as_pydicts="lossy")
    rows = [_row(record) for record in records if record.get("brand") and record.get("group_id")]
    return sorted(rows, key=lambda row: row.item_id)


def _row(record: dict[str, Any]) -> Row:
    keywords = record.get("keywords") or {}
    return Row(
        item_id=str(record["item_id"]),
        title=str(record["title"]),
        image_path=str(record["image_path"]),
        brand=str(record["brand"]),
        concept=str(record["group_id"]),
        category="/".join(record.get("category_path") or ()),
        tags=tuple(record.get("tags") or ()),
        keywords=tuple(keywords.get(LANGUAGE) or ()),
    )


def load_pictures(rows: Iterable[Row], root: Path, pixels: int, progress: Progress) -> NDArray[np.uint8]:
    """Decode the rows' pictures to uint8 RGBA with straight alpha, shape (n, pixels, pixels, 4)."""
    wanted = list(rows)
    cache = np.empty((len(wanted), pixels, pixels, 4), dtype=np.uint8)
    with progress.step("decode pictures", len(wanted)) as step, ThreadPoolExecutor(_DECODE_THREADS) as pool:
        for index, picture in enumerate(pool.map(lambda row: _decode(root / row.image_path, pixels), wanted)):
            cache[index] = picture
            step.advance()
    return cache


def _decode(path: Path, pixels: int) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        return fit_image(image.convert("RGBA"), pixels, (255, 255, 255, 0))


@dataclass(frozen=True)
class Concepts:
    """Training rows by concept. `members[i]` are positions in the picture cache; `titles[i]`, `words[i]` its texts."""

    names: tuple[str, ...]
    members: tuple[NDArray[np.int64], ...]
    titles: tuple[tuple[str, ...], ...]
    words: tuple[tuple[str, ...], ...]
    subgroups: tuple[NDArray[np.int64], ...]  # concept positions of each category
    truths: tuple[frozenset[str], ...]  # all texts that are true of the concept, in lower case


def group_concepts(rows: list[Row]) -> Concepts:
    """Group rows by concept; positions refer to `rows`."""
    positions: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        positions[row.concept].append(index)
    names = tuple(sorted(positions))
    titles = tuple(tuple(dict.fromkeys(rows[i].title for i in positions[name])) for name in names)
    words = tuple(tuple(dict.fromkeys(w for i in positions[name] for w in rows[i].words)) for name in names)
    subgroups: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(names):
        subgroups[rows[positions[name][0]].category].append(index)
    return Concepts(
        names=names,
        members=tuple(np.array(positions[name]) for name in names),
        titles=titles,
        words=words,
        subgroups=tuple(np.array(subgroups[key]) for key in sorted(subgroups)),
        truths=tuple(frozenset(t.lower() for t in (*titles[i], *words[i])) for i in range(len(names))),
    )


def training_rows(rows: Iterable[Row], brands: Collection[str], excluded: Collection[str]) -> list[Row]:
    """Rows of the given brands whose concept is not held out."""
    return [row for row in rows if row.brand in brands and row.concept not in excluded]


def snapshot_schema() -> pa.Schema:
    """Columns of a snapshot that training reads, for those who make one."""
    strings = pa.list_(pa.string())
    text = {name: pa.string() for name in ("item_id", "title", "image_path", "brand", "group_id")}
    return pa.schema(
        [*text.items(), ("category_path", strings), ("tags", strings), ("keywords", pa.map_(pa.string(), strings))]
    )
