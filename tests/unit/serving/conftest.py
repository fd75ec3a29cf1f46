"""A server over tiny real releases: real tables, real index, real verdict files; only MLflow and the weights are not.

Each release holds other items with other titles ("apple of first"), so that an answer which mixes two would show.
"""

import copy
import hashlib
import io
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from index_builder.build import build
from index_builder.delta_source import DeltaSource
from index_builder.reader import open_index
from lookalike.contracts.change import ChangeKind, Position, Topic, partition_of
from lookalike.contracts.item_state import state_of_row, unknown_item
from lookalike.contracts.probe import PROBE_COUNT, Probe
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import Settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.contracts.vector_update import VectorUpdate
from lookalike.contracts.verdict import Check, Verdict
from lookalike.releases.release import Action, LedgerEntry, Release
from lookalike.releases.verdict_file import write_verdict
from lookalike.serving.app import create_app
from lookalike.storage.delta import DeltaTables
from lookalike.storage.log.port import Message
from lookalike.storage.log.sqlite import SqliteLog

DIM = 16
WORDS = ("apple", "pear", "guitar", "dog", "cat", "pizza", "bicycle", "umbrella", "rocket", "tree", "fish", "cup")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def space(weights="a"):
    return EmbeddingSpace(
        encoder="tiny", weights_sha256=weights * 64, preprocessing_sha256="b" * 64, tokenizer_sha256="c" * 64, dim=DIM
    )


class TinyEncoder:
    """Unit vectors drawn from the hash of the first word, or of the picture's first pixel."""

    def __init__(self, weights="a", twist=0.0):
        self.space, self._twist = space(weights), twist

    def _vector(self, key):
        seed = int.from_bytes(hashlib.sha256(key).digest()[:4], "big")
        vector = np.random.default_rng(seed).normal(size=DIM).astype(np.float32)
        vector[0] += self._twist
        return vector / np.linalg.norm(vector)

    def encode_texts(self, texts):
        return np.stack([self._vector(text.split()[0].lower().encode()) for text in texts])

    def prepare(self, picture):
        return picture

    def encode_prepared(self, batch):
        return np.stack([self._vector(np.ascontiguousarray(picture[0, 0]).tobytes()) for picture in batch])

    def encode_pictures(self, pictures):
        return self.encode_prepared([self.prepare(picture) for picture in pictures])


def probe_of(encoder):
    pictures = [np.full((2, 2, 3), number, np.uint8) for number in range(PROBE_COUNT)]
    texts = [f"text{number}" for number in range(PROBE_COUNT)]
    return Probe(pictures, texts, encoder.encode_pictures(pictures), encoder.encode_texts(texts))


def colour_of(word):
    return tuple(hashlib.sha256(word.encode()).digest()[:3])


def png(word, size=(4, 3)):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour_of(word)).save(buffer, "PNG")
    return buffer.getvalue()


class Kit:
    """Makes releases below one home and points `live` at them."""

    def __init__(self, home):
        self.settings = Settings(home=home, serving={"poll_seconds": 0.05, "threads": 2, "max_upload_bytes": 200_000})
        self.encoder = TinyEncoder()
        self.probe = probe_of(self.encoder)
        self.live_release = None
        self.asked = []
        self.noted = []
        self.opened = 0

    def live(self):
        return self.live_release

    def open_encoder(self, folder, settings):
        self.opened += 1
        return self.encoder, self.probe

    def ask_for_release(self, reason, evidence, actor):
        entry = LedgerEntry(datetime.now(UTC), Action.ASKED, self.live_release.version, actor, evidence=evidence)
        self.asked.append((reason, entry))
        return entry

    def note_move(self, seen_by):
        self.noted.append((self.live_release.version, seen_by))

    def release(self, version, name, judged=True, image_paths=None):
        """Build `name` for real and describe it as the registry would."""
        tables = DeltaTables(self.settings.home / f"tables-{name}")
        items = [f"{name}:{word}" for word in WORDS]
        pictures = [self._store(word) for word in WORDS]
        paths = [(image_paths or {}).get(word, path) for word, (path, _) in zip(WORDS, pictures, strict=True)]
        hashes = [content_hash for _, content_hash in pictures]
        tables.append(SILVER, silver_rows(name, items, paths, hashes))
        vectors = self.encoder.encode_texts(WORDS)
        tables.append(EMBEDDINGS, embedding_rows(self.encoder.space, items, hashes, vectors))
        folder = self.settings.releases_root / name
        source = DeltaSource.newest(tables, self.encoder.space)
        manifest = build(self.settings, source, folder, LogProgress(), "exact")
        check = Check(name="recall@10", passed=True, observed="1.0", bar="at least 0.95")
        verdict = Verdict(at=NOON, manifest_sha256=manifest.sha256, checks=(check,))
        if judged:
            write_verdict(folder, verdict)
        return Release(
            version=version, index_dir=folder, encoder_dir=self.settings.encoders_root / "tiny", encoder_version="1",
            manifest_sha256=manifest.sha256, space=self.encoder.space.fingerprint, items=len(items), recipe="exact",
            table_versions={}, created_at=NOON, actor="ada", verdict_sha256=verdict.sha256 if judged else None,
        )  # fmt: skip

    def _store(self, word):
        data = png(word)
        content_hash = hashlib.sha256(data).hexdigest()
        path = f"{content_hash[:2]}/{content_hash}.png"
        target = self.settings.pictures_root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        return path, content_hash


def silver_rows(name, items, paths, hashes):
    rows = [
        {
            "item_id": item, "version": 1, "title": f"{item.split(':')[1]} of {name}", "brand": name,
            "category_path": ["things"], "tags": [item.split(":")[1]], "group_id": item.split(":")[1],
            "image_path": path, "content_hash": content_hash, "width": 4, "height": 3, "price": float(number),
            "currency": "EUR", "stock": number, "licence": "CC0-1.0", "licence_url": "https://example.org/cc0",
            "author": "Ada", "author_url": "https://example.org/ada", "attributes": [], "keywords": [],
            "synthetic": ["price", "stock"], "source": "test", "snapshot_id": "s", "deleted": False, "shard": 0,
        }
        for number, (item, path, content_hash) in enumerate(zip(items, paths, hashes, strict=True))
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=SILVER.schema)


def embedding_rows(of_space, items, hashes, vectors):
    rows = [
        {
            "item_id": item, "space": of_space.fingerprint, "content_hash": content_hash, "item_version": 1,
            "encoder_version": "1", "vector": vector.tolist(), "l2_norm": 1.0,
        }
        for item, content_hash, vector in zip(items, hashes, vectors, strict=True)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=EMBEDDINGS.schema)


class Stream:
    """Stands in for the streaming job: merges changes into states and publishes them as updates to a real log."""

    def __init__(self, log, index):
        self.log, self.index, self.version = log, index, 1_000
        self.states, self.origins = {}, dict.fromkeys(range(log.partitions), -1)

    def state(self, item_id):
        if item_id not in self.states:
            row = int(self.index.rows_of([item_id])[0])
            known = row >= 0
            row_state = state_of_row(self.index.columns.slice(row, 1).to_pylist()[0]) if known else None
            self.states[item_id] = row_state or unknown_item(item_id)
        return self.states[item_id]

    def origin_of(self, item_id):
        partition = partition_of(item_id.encode(), self.log.partitions)
        self.origins[partition] += 1
        return Position(partition, self.origins[partition])

    def publish(self, kind, item_id, state, vectors=None, at=None):
        """Append one update; the token of its origin."""
        self.states[item_id] = state
        origin = self.origin_of(item_id)
        update = VectorUpdate(origin, state, kind, at or datetime.now(UTC), vectors or {})
        self.log.append(Topic.UPDATES, [Message(update.key, update.encode())])
        return f"{origin.partition}:{origin.offset}"

    def next_version(self):
        self.version += 1
        return self.version

    def price(self, item_id, price, at=None):
        at = at or datetime.now(UTC)
        state, _ = self.state(item_id).set_columns(self.next_version(), {"price": price}, at)
        return self.publish(ChangeKind.ATTRIBUTES, item_id, state, at=at)

    def delete(self, item_id):
        state, _ = self.state(item_id).set_deleted(self.next_version(), True, datetime.now(UTC))
        return self.publish(ChangeKind.DELETE, item_id, state)

    def upsert(self, item_id, word, path, content_hash, weights="a"):
        """A product that shows `word`, with its vector in the space of these weights."""
        columns = dict(self.state("first:dog").columns) | {
            "title": f"{word} fresh", "brand": "fresh", "image_path": path, "content_hash": content_hash
        }  # fmt: skip
        state, _ = self.state(item_id).upsert(self.next_version(), columns, datetime.now(UTC))
        encoder = TinyEncoder(weights)
        vectors = {encoder.space.fingerprint: encoder.encode_texts([word])[0]}
        return self.publish(ChangeKind.UPSERT, item_id, state, vectors)


@pytest.fixture(scope="session")
def sealed(shared_kit):
    """The index of the shared release."""
    return open_index(shared_kit.live_release.index_dir, verify=False)


@pytest.fixture
def log(tmp_path):
    log = SqliteLog(tmp_path / "log" / "log.db", 2, 168.0)
    yield log
    log.close()


@pytest.fixture
def stream(log, sealed):
    return Stream(log, sealed)


@pytest.fixture
def flowing(shared_kit, log, serve):
    """Start a server over the shared release that follows `log`."""

    def start(log=log, **serving):
        kit = copy.copy(shared_kit)
        kit.asked = []
        changed = kit.settings.serving.model_copy(update={"report_seconds": 1_000.0, **serving})
        kit.settings = kit.settings.model_copy(update={"serving": changed})
        server = serve(kit, open_log=lambda settings: log)
        server.kit = kit
        return server

    return start


@pytest.fixture
def kit(tmp_path):
    return Kit(tmp_path / "var")


@pytest.fixture(scope="session")
def shared_kit(tmp_path_factory):
    """One release, `first`, for tests that only read."""
    kit = Kit(tmp_path_factory.mktemp("serving"))
    kit.live_release = kit.release("1", "first")
    return kit


@pytest.fixture
def serve():
    """Start the application of a kit; its follower polls once at the start and then when the test says so."""
    started = []

    def start(kit, **more):
        app = create_app(kit.settings, source=kit, open_encoder=kit.open_encoder, **more)
        follower = app.state.serving.follower
        follower.start = follower.poll
        client = TestClient(app, raise_server_exceptions=False)
        client.__enter__()
        started.append(client)
        return SimpleNamespace(http=client, follower=follower, app=app, poll=follower.poll)

    yield start
    for client in started:
        client.__exit__(None, None, None)


@pytest.fixture
def client(shared_kit, serve):
    return serve(shared_kit).http
