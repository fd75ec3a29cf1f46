"""A server over tiny real releases: real tables, real index, real verdict files; only MLflow and the weights are not.

Each release holds other items with other titles ("apple of first"), so that an answer which mixes two would show.
"""

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
from lookalike.contracts.probe import PROBE_COUNT, Probe
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import Settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.contracts.verdict import Check, Verdict
from lookalike.releases.release import Release
from lookalike.releases.verdict_file import write_verdict
from lookalike.serving.app import create_app
from lookalike.serving.release import load_release
from lookalike.storage.delta import DeltaTables

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
        self.opened = 0

    def live(self):
        return self.live_release

    def open_encoder(self, folder, settings):
        self.opened += 1
        return self.encoder, self.probe

    def load(self, release, current):
        return load_release(release, self.settings, current, self.open_encoder)

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
        manifest = build(self.settings, self.encoder.space, tables, folder, LogProgress(), "exact")
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

    def start(kit):
        app = create_app(kit.settings, source=kit, load=kit.load)
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
