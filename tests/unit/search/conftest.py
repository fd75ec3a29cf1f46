"""A tiny deterministic encoder, an index of plain numpy, a catalogue of 600 items, and a shop that keeps changing."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from index_builder.build import build
from index_builder.delta_source import DeltaSource
from index_builder.reader import open_index
from lookalike.catalogue.silver_rows import silver_row
from lookalike.contracts.change import ChangeKind, Position
from lookalike.contracts.item_state import PICTURE_COLUMNS, ItemState, Outcome, unknown_item
from lookalike.contracts.manifest import IndexRecipe, Manifest
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import IntakeSettings, Settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.contracts.vector_update import VectorUpdate
from lookalike.search import fresh_vectors
from lookalike.search.engine import SearchEngine
from lookalike.search.overlay import Overlay
from lookalike.storage.delta import DeltaTables

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


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """So that overlays of a few items have blocks, joined ones and a tail."""
    monkeypatch.setattr(fresh_vectors, "FIRST_BLOCK", 8)
    monkeypatch.setattr(fresh_vectors, "FEW", 4)


class CoarseBlock:
    """VectorBlock port in numpy: vectors rounded to two places."""

    def __init__(self, vectors):
        self._exact, self._coarse = vectors.copy(), np.round(vectors, 2)
        self.bytes = 0
        self.error = float(np.linalg.norm(self._exact - self._coarse, axis=1).max()) + 1e-5

    def __len__(self):
        return len(self._exact)

    def nearest(self, query, k, allowed):
        positions = np.flatnonzero(allowed)
        dots = self._coarse[positions] @ query
        order = np.argsort(-dots, kind="stable")[:k]
        return dots[order], positions[order]

    def joined(self, other):
        return CoarseBlock(np.concatenate([self._exact, other._exact]))


class ArrayIndex:
    """SealedIndex port by brute force. `forgetful`: what it misses changes with k, as an approximate index's does."""

    sets = None

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
            dots[:, ~allowed.has(np.arange(len(self._vectors)))] = -np.inf
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

    def block(self, vectors):
        return CoarseBlock(vectors)

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
def array_overlay(vectors, columns):
    """An overlay of the index that `make_engine` makes."""
    return lambda forgetful: Overlay(ArrayIndex(vectors, columns, forgetful), SPACE.fingerprint, 2**30)


@pytest.fixture
def engine(make_engine):
    return make_engine()


@pytest.fixture
def encode():
    """Vector that the encoder gives to text or picture bytes."""
    return lambda data: vector_of(data if isinstance(data, bytes) else data.encode())


COLOURS, BRANDS, WORDS = ("red", "blue", "green"), ("acme", "bolt", "cobra", None), ("new", "sale", "kids", "bio")


def picture_hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


class Shop:
    """Random changes as the job would publish them, and a naive truth: a dictionary of states, one loop per question.

    Pictures whose name ends in "!" never get a vector. `known` holds what the receiver of the messages was told.
    """

    def __init__(self, seed: int, items: int):
        self.random = np.random.default_rng(seed)
        self.version = 0
        self.states = {}
        for number in range(items):
            item_id = f"item-{number:04d}"
            self.states[item_id] = ItemState(item_id, 0, self.columns(f"{item_id} picture 0"), {}, False, None)
        self.sealed = dict(self.states)
        self.known = dict(self.states)
        self.offset = 0

    def columns(self, picture):
        random = self.random
        return {
            "title": f"title {random.integers(1000)}", "brand": BRANDS[random.integers(4)],
            "category_path": [["food"], ["food", "drink"], []][random.integers(3)],
            "tags": sorted(set(random.choice(WORDS, random.integers(4)).tolist())), "group_id": None,
            "price": [None, round(float(random.random() * 100), 2)][min(random.integers(8), 1)],
            "currency": "EUR", "stock": [None, int(random.integers(4))][min(random.integers(8), 1)],
            "licence": "CC0-1.0", "licence_url": None, "author": None, "author_url": None,
            "attributes": {} if random.random() < 0.3 else {"colour": COLOURS[random.integers(3)]},
            "keywords": {"de": ["Apfel", f"Wort {random.integers(100)}"]}, "synthetic": [], "source": "shop",
            "image_path": f"{picture}.bin", "content_hash": picture_hash(picture), "width": 1, "height": 1,
        }  # fmt: skip

    def change(self, kinds="uppaaadr", late=0.15, new=0.2, lost=0.05):
        """One random change of a random item, as the message that the job would publish, or None when it is behind."""
        self.version += 1
        version = self.version if self.random.random() > late else int(self.random.integers(0, self.version + 1))
        kind = kinds[self.random.integers(len(kinds))]
        known = sorted(self.states)
        item_id = known[self.random.integers(len(known))]
        if kind == "u" and self.random.random() < new:
            item_id = f"new-{self.random.integers(10_000):04d}"
        old = self.states.get(item_id, unknown_item(item_id))
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=version)
        if kind in "up":
            same = kind == "u" and old.described and self.random.random() < 0.3
            picture = f"{item_id} picture {version}" + ("!" if self.random.random() < lost else "")
            columns = self.columns(picture)
            if same:
                columns |= {name: old.columns[name] for name in PICTURE_COLUMNS}
            state, outcome = old.upsert(version, columns, at)
        elif kind == "a":
            names = self.random.choice(["price", "stock", "tags", "brand", "attributes", "title"], 2, replace=False)
            values = self.columns("x")
            state, outcome = old.set_columns(version, {name: values[name] for name in names.tolist()}, at)
        else:
            state, outcome = old.set_deleted(version, kind == "d", at)
        if outcome != Outcome.CHANGED:
            return None
        self.states[item_id] = state
        return self.message(
            state, {"u": "upsert", "p": "upsert", "a": "attributes", "d": "delete"}.get(kind, "restore")
        )

    def message(self, state, kind="upsert", always=False):
        """As the job publishes it: with a vector unless the sealed release has it, or nobody has."""
        self.offset += 1
        sealed = self.sealed.get(state.item_id)
        has = sealed is not None and sealed.content_hash == state.content_hash
        path = state.columns.get("image_path", "!.bin")
        carries = not path.endswith("!.bin") and (always or not has)
        update = VectorUpdate(
            Position(0, self.offset), state, ChangeKind(kind), state.changed_at,
            {SPACE.fingerprint: self.vector(state)} if carries else {},
        )  # fmt: skip
        return VectorUpdate.decode(update.encode())

    def changes(self, count, **settings):
        found = [self.change(**settings) for _ in range(count)]
        return [update for update in found if update is not None]

    def deliver(self, update):
        """Tell the truth of one message."""
        before = self.known.get(update.state.item_id, unknown_item(update.state.item_id))
        self.known[update.state.item_id] = before.merge(update.state)

    @staticmethod
    def vector(state):
        return vector_of((state.content_hash or "").encode())

    def found(self, states=None):
        """States that a search may find, by id."""
        states = self.known if states is None else states
        return {
            item_id: state
            for item_id, state in states.items()
            if state.described and not state.deleted and not state.columns["image_path"].endswith("!.bin")
        }

    def scores(self, fused, passes=lambda columns: True, without=()):
        """(−score, id) of all that pass, in order."""
        fused = np.asarray(fused, np.float64) / np.linalg.norm(np.asarray(fused, np.float64))
        scored = []
        for item_id, state in self.found().items():
            if passes(state.columns) and item_id not in without:
                vector = self.vector(state).astype(np.float64)
                scored.append((-round(float(vector @ fused / np.linalg.norm(vector)), 6), item_id))
        return sorted(scored)


def seal_states(folder, states):
    """A sealed index of the exact recipe, built from real tables that hold these states."""
    settings = Settings(home=folder)
    tables = DeltaTables(settings.tables_root)
    rows = [silver_row(state, "s", 4) for state in states.values() if state.described]
    rows = [
        row | {name: list(row[name].items()) for name in ("attributes", "keywords", "column_versions")} for row in rows
    ]
    tables.append(SILVER, pa.Table.from_pylist(rows, schema=SILVER.schema))
    embedded = [state for state in states.values() if state.described and "!.bin" not in state.columns["image_path"]]
    columns = {
        "item_id": [state.item_id for state in embedded], "space": [SPACE.fingerprint] * len(embedded),
        "content_hash": [state.content_hash for state in embedded], "item_version": [1] * len(embedded),
        "encoder_version": ["1"] * len(embedded), "vector": [Shop.vector(state).tolist() for state in embedded],
        "l2_norm": [1.0] * len(embedded),
    }  # fmt: skip
    tables.append(EMBEDDINGS, pa.table(columns, schema=EMBEDDINGS.schema))
    build(settings, DeltaSource.newest(tables, SPACE), folder / "index", LogProgress(), "exact")
    return open_index(folder / "index")


@pytest.fixture
def make_shop():
    return Shop


@pytest.fixture(scope="session")
def seal(tmp_path_factory):
    return lambda states: seal_states(tmp_path_factory.mktemp("sealed"), states)


@pytest.fixture(scope="session")
def sealed_shop(seal):
    """400 items, sealed. Shops of one seed and size begin alike."""
    return seal(Shop(0, 400).sealed)


@pytest.fixture
def shop():
    return Shop(0, 400)


@pytest.fixture
def make_live(sealed_shop, encoder, tmp_path):
    """(overlay, engine) over the sealed shop or another index."""

    def make(index=sealed_shop, overlay=True, release="7", **changes):
        layer = Overlay(index, SPACE.fingerprint, 2**30) if overlay else None
        settings = {"decode": decode, "limits": IntakeSettings(), "pictures_root": tmp_path} | changes
        return layer, SearchEngine(index, encoder, release, overlay=layer, **settings)

    return make
