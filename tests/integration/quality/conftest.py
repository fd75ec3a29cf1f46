"""Silver rows and embeddings of a small healthy catalogue, in the contracts' own schemas."""

import hashlib
import zlib

import numpy as np
import pyarrow as pa
import pytest

from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import EMBEDDINGS, SILVER

DIM = 32


class Tables:
    """`silver` and `embeddings` as lists of rows that a test may spoil; `arrow()` gives both as tables."""

    def __init__(self, concepts=100, brands=3):
        rng = np.random.default_rng(3)
        self.space = EmbeddingSpace(
            encoder="tiny", weights_sha256="a" * 64, preprocessing_sha256="b" * 64, tokenizer_sha256="c" * 64, dim=DIM
        )
        centres = rng.normal(size=(concepts, DIM))
        vectors = np.repeat(centres, brands, axis=0) + 0.5 * rng.normal(size=(concepts * brands, DIM))
        self.vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        self.silver = [self._row(i, i // brands, i % brands) for i in range(concepts * brands)]
        self.embeddings = [self._embedding(row, i) for i, row in enumerate(self.silver)]

    def arrow(self):
        silver = pa.Table.from_pylist(self.silver, schema=_nullable(SILVER.schema))
        return silver, pa.Table.from_pylist(self.embeddings, schema=_nullable(EMBEDDINGS.schema))

    @staticmethod
    def _row(i, concept, brand):
        item_id = f"brand-{brand}:concept-{concept}"
        return {
            "item_id": item_id, "version": 1, "title": f"concept {concept}", "brand": f"brand-{brand}",
            "category_path": ["thing", f"kind-{concept // 10}"], "tags": ["thing"], "group_id": f"concept-{concept}",
            "image_path": f"{i}.png", "content_hash": hashlib.sha256(item_id.encode()).hexdigest(), "width": 64,
            "height": 64, "price": 9.5, "currency": "EUR", "stock": None if i % 5 == 0 else i, "licence": "MIT",
            "attributes": [], "keywords": [], "synthetic": ["price"], "source": "icons", "snapshot_id": "s1",
            "deleted": False, "shard": zlib.crc32(item_id.encode()) % 4,
        }  # fmt: skip

    def _embedding(self, row, i):
        return {
            "item_id": row["item_id"], "space": self.space.fingerprint, "content_hash": row["content_hash"],
            "item_version": 1, "encoder_version": "tiny", "vector": self.vectors[i].tolist(), "l2_norm": 1.0,
        }  # fmt: skip


def _nullable(schema):
    return pa.schema([field.with_nullable(True) for field in schema])


@pytest.fixture
def tables():
    return Tables()


@pytest.fixture(scope="session")
def make_tables():
    return Tables
