"""Small real Delta tables of silver and embeddings, and indexes built from them."""

import hashlib
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import faiss
import numpy as np
import pyarrow as pa
import pytest

from index_builder.build import build
from index_builder.delta_source import DeltaSource
from index_builder.merge import record
from index_builder.pin import Pin
from index_builder.reader import FaissIndex, open_index
from lookalike.contracts.manifest import Manifest
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import Settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.storage.delta import DeltaTables

DIM = 32
ITEMS = 3_000
RECIPES = ("exact", "hnsw", "ivf_pq")


def space_of(letter: str, dim: int = DIM) -> EmbeddingSpace:
    return EmbeddingSpace(
        encoder=f"test-{letter}",
        weights_sha256=letter * 64,
        preprocessing_sha256="b" * 64,
        tokenizer_sha256="c" * 64,
        dim=dim,
    )


def clustered(count: int, seed: int, dim: int = DIM) -> np.ndarray:
    """Unit vectors around 100 centres, as embeddings of a catalogue lie."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(100, dim))
    vectors = centres[random.integers(0, 100, count)] + 0.6 * random.normal(size=(count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def content_hash(item_id: str) -> str:
    return hashlib.sha256(item_id.encode()).hexdigest()


def silver_rows(ids: list[str], deleted: frozenset[str] = frozenset()) -> pa.Table:
    rows = [
        dict.fromkeys(SILVER.schema.names)
        | {
            "item_id": item_id,
            "version": 1,
            "title": f"title of {item_id}",
            "brand": f"brand {len(item_id) % 3}",
            "tags": ["tag"],
            "image_path": f"ab/{item_id}.png",
            "content_hash": content_hash(item_id),
            "width": 64,
            "height": 64,
            "price": 1.5,
            "attributes": [("colour", "red")],
            "source": "test",
            "snapshot_id": "s1",
            "deleted": item_id in deleted,
            "shard": sum(item_id.encode()) % 4,
        }
        for item_id in ids
    ]
    return pa.Table.from_pylist(rows, schema=SILVER.schema)


def embedding_rows(ids: list[str], vectors: np.ndarray, space: str) -> pa.Table:
    columns = {
        "item_id": ids,
        "space": [space] * len(ids),
        "content_hash": [content_hash(item_id) for item_id in ids],
        "item_version": [1] * len(ids),
        "encoder_version": ["1"] * len(ids),
        "vector": list(vectors),
        "l2_norm": [1.0] * len(ids),
    }
    return pa.table(columns, schema=EMBEDDINGS.schema)


@dataclass(frozen=True)
class Catalogue:
    """Item ids in table order (shuffled), their vectors, and the tables."""

    settings: Settings
    tables: DeltaTables
    space: EmbeddingSpace
    ids: list[str]
    vectors: np.ndarray

    def vectors_by_id(self) -> np.ndarray:
        return self.vectors[np.argsort(np.array(self.ids, dtype=object))]

    @property
    def source(self) -> DeltaSource:
        return DeltaSource.newest(self.tables, self.space)

    def source_of(self, pin: Pin) -> DeltaSource:
        return DeltaSource(self.tables, pin.space, pin.table_versions)

    def build(self, target: Path, recipe: str = "exact") -> Manifest:
        return build(self.settings, self.source, target, LogProgress(), recipe)

    def extend(self, silver: pa.Table | None = None, embeddings: pa.Table | None = None) -> "Catalogue":
        if silver is not None:
            self.tables.append(SILVER, silver)
        if embeddings is not None:
            self.tables.append(EMBEDDINGS, embeddings)
        return replace(self)


def make_catalogue(home: Path, items: int, order_seed: int = 3, files: int = 2) -> Catalogue:
    """The same rows for any `order_seed`; only their order and spread over files differ."""
    settings = Settings(home=home)
    tables = DeltaTables(settings.tables_root)
    space = space_of("a")
    numbers = np.random.default_rng(order_seed).permutation(items)
    ids = [f"brand:item-{number:05d}" for number in numbers]
    vectors = clustered(items, seed=1)[numbers]
    for part in np.array_split(np.arange(items), files):
        names = [ids[at] for at in part]
        tables.append(SILVER, silver_rows(names))
        tables.append(EMBEDDINGS, embedding_rows(names, vectors[part], space.fingerprint))
    return Catalogue(settings, tables, space, ids, vectors)


def turn_back(folder: Path, vectors: np.ndarray, apart: bool = True) -> faiss.IndexRefine:
    """Make an artifact with lists one of before axes were: codes are on the encoder's own ones, and centres within the
    index; finer codes `apart`, or within it too. Returns that index, made by faiss."""
    manifest = Manifest.read(folder)
    factory = f"IVF{manifest.recipe.nlist}_HNSW32,RaBitQfs,Refine(SQ8)"
    whole = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    whole.train(vectors)
    whole.add(vectors)
    for name in ("refine.faiss", "centres.faiss", "axes.npz", "attributes.sets"):
        (folder / name).unlink()
    faiss.write_index(whole.base_index if apart else whole, str(folder / "index.faiss"))
    if apart:
        faiss.write_index(whole.refine_index, str(folder / "refine.faiss"))
    files = {path.name: record(path) for path in folder.iterdir() if path.name != "manifest.json"}
    recipe = manifest.recipe.model_copy(update={"code_bytes": 0, "factory": "IVF{nlist}_HNSW32,RaBitQfs,Refine(SQ8)"})
    told = manifest.model_copy(update={"files": files, "recipe": recipe})
    (folder / "manifest.json").write_text(told.model_dump_json())
    return whole


@pytest.fixture(scope="session")
def kit() -> ModuleType:
    """The functions of this file: tests cannot import a conftest in importlib mode."""
    return sys.modules[__name__]


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return make_catalogue(tmp_path_factory.mktemp("catalogue"), ITEMS)


@pytest.fixture(scope="session")
def built(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("built")
    for recipe in RECIPES:
        catalogue.build(folder / recipe, recipe)
    return {recipe: folder / recipe for recipe in RECIPES}


@pytest.fixture(scope="session", params=RECIPES)
def index(request: pytest.FixtureRequest, built: dict[str, Path]) -> FaissIndex:
    return open_index(built[request.param])


@pytest.fixture(scope="session")
def queries() -> np.ndarray:
    return clustered(40, seed=2)


@pytest.fixture
def small(tmp_path: Path) -> Catalogue:
    """40 items of its own, to be spoiled."""
    return make_catalogue(tmp_path / "small", 40, files=1)
