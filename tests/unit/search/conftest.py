"""A tiny deterministic encoder, an index of plain numpy, and a catalogue of 600 items with filterable columns."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lookalike.contracts.manifest import IndexRecipe, Manifest
from lookalike.contracts.settings import IntakeSettings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import SILVER
from lookalike.search.engine import SearchEngine

DIM, ITEMS = 16, 600
SPACE = EmbeddingSpace(
    encoder="hashing", weights_sha256="a" * 64, preprocessing_sha256="b" * 64, tokenizer_sha256="c" * 64, dim=DIM
)


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def vector_of(data: bytes) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(data).digest()[:8], "big")
    return unit(np.random.default_rng(seed).normal(size=(1, DIM)))[0]


class HashingEncoder:
    """Encoder port: the vector is a function of the text's or picture's bytes. Counts its calls."""

    space = SPACE

    def __init__(self):
        self.batches = []

    def prepare(self, picture):
        return picture

    def encode_prepared(self, batch):
        return self.encode_pictures(batch)

    def encode_pictures(self, pictures):
        self.batches.append(("pictures", len(pictures)))
        return np.stack([vector_of(picture.tobytes()) for picture in pictures])

    def encode_texts(self, texts):
        self.batches.append(("texts", len(texts)))
        return np.stack([vector_of(text.encode()) for text in texts])


class ArrayIndex:
    """SealedIndex port by brute force. `forgetful`: what it misses changes with k, as an approximate index's does."""

    def __init__(self, vectors, columns, forgetful=False):
        self._vectors, self.columns, self._forgetful = vectors, columns, forgetful
        recipe = IndexRecipe(name="array", description="numpy", factory="Flat")
        self.manifest = Manifest(
            created_at=datetime(2026, 1, 1, tzinfo=UTC), space=SPACE, recipe=recipe, chosen_because="test",
            items=len(vectors), table_versions={}, files={},
        )  # fmt: skip

    def planned_search(self, queries, k, allowed=None, exact=False):
        dots = queries @ self._vectors.T
        if allowed is not None:
            dots[:, ~allowed] = -np.inf
        if self._forgetful and not exact:
            dots[:, np.random.default_rng(k).random(len(self._vectors)) < 20 / k] -= 3
        rows = np.argsort(-dots, axis=1, kind="stable")[:, :k]
        scores = np.take_along_axis(dots, rows, axis=1)
        rows = np.where(np.isneginf(scores), -1, rows)
        short = max(0, k - rows.shape[1])
        rows = np.pad(rows, ((0, 0), (0, short)), constant_values=-1)
        scores = np.pad(scores, ((0, 0), (0, short)), constant_values=-np.inf)
        return scores.astype(np.float32), rows, "index" if self._forgetful else "exact"

    def search(self, queries, k, allowed=None):
        return self.planned_search(queries, k, allowed)[:2]

    def vectors(self, rows):
        return self._vectors[rows]

    def rows_of(self, item_ids):
        ids = self.columns["item_id"].to_pylist()
        return np.array([ids.index(item_id) if item_id in ids else -1 for item_id in item_ids])


def make_rows():
    random = np.random.default_rng(5)
    # Ids are not in the order of rows: ties must go by id all the same.
    numbers = random.permutation(ITEMS)
    return [
        dict.fromkeys(SILVER.schema.names)
        | {
            "item_id": f"item-{number:04d}",
            "version": 1,
            "title": f"title {number}",
            "brand": ["acme", "bolt", None][number % 3],
            "category_path": [["food", "fruit"], ["food", "drink"], ["tool"], [], None][number % 5],
            "tags": [["red", "round"], ["red"], ["blue"], None][number % 4],
            "image_path": f"{number}.bin",
            "content_hash": "0" * 64,
            "price": None if number % 7 == 0 else number / 10,
            "currency": "EUR",
            "stock": None if number % 11 == 0 else number % 13,
            "licence": ["CC0-1.0", "CC-BY-4.0"][number % 2],
            "attributes": [None, [("colour", "red"), ("weight", f" {number}.5 ")], [("colour", "blue")]][number % 3],
            "keywords": [("de", ["Apfel"])],
            "synthetic": ["price"],
            "source": "test",
            "width": 1,
            "height": 1,
        }
        for number in numbers.tolist()
    ]


@pytest.fixture(scope="session")
def rows():
    """The catalogue as plain dictionaries, in row order: what an oracle loops over."""
    left_out = ("snapshot_id", "deleted", "shard")
    return [{name: row[name] for name in row if name not in left_out} for row in make_rows()]


@pytest.fixture(scope="session")
def columns(rows):
    """The same as columns, in several chunks, as a large file has them."""
    schema = pa.schema([SILVER.schema.field(name).with_nullable(True) for name in rows[0]])
    table = pa.Table.from_pylist(rows, schema=schema)
    return pa.concat_tables(
        [pa.Table.from_pylist(rows[:1], schema=schema), *[table.slice(at, 250) for at in range(1, ITEMS, 250)]]
    )


@pytest.fixture(scope="session")
def vectors():
    return unit(np.random.default_rng(6).normal(size=(ITEMS, DIM)))


def decode(data, box=None):
    """A picture whose pixels are the bytes; a crop takes a share of them."""
    if box is not None:
        data = data[int(box.left * len(data)) : int((box.left + box.width) * len(data))]
    return np.frombuffer(data, np.uint8).reshape(1, -1, 1)


@pytest.fixture
def encoder():
    return HashingEncoder()


@pytest.fixture
def store(tmp_path) -> Path:
    """A picture store with a picture for item-0001 only."""
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "1.bin").write_bytes(bytes(range(100)))
    return tmp_path / "pictures"


@pytest.fixture
def make_engine(vectors, columns, encoder, store):
    def make(release="7", forgetful=False, vectors=vectors, **changes):
        settings = {"decode": decode, "limits": IntakeSettings(), "pictures_root": store} | changes
        return SearchEngine(ArrayIndex(vectors, columns, forgetful), encoder, release, **settings)

    return make


@pytest.fixture
def engine(make_engine):
    return make_engine()


@pytest.fixture
def encode():
    """Vector that the encoder gives to text or picture bytes."""
    return lambda data: vector_of(data if isinstance(data, bytes) else data.encode())
