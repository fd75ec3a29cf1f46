"""The same vectors built with and without a GPU: the same files, opened on the CPU, that answer as well.

Bytes differ: sums are made in another order, and a graph of CAGRA's is another graph. Where there is no GPU, what a
build does with one is tested with stand-ins in tests/unit/index_builder/test_gpu_steps.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NoReturn

import faiss
import numpy as np
import pyarrow as pa
import pytest

from index_builder.build import build
from index_builder.clustering import find_centres
from index_builder.device import lacking
from index_builder.gpu import CentresOnGpu
from index_builder.list_centres import ListCentres
from index_builder.reader import FaissIndex, open_index
from index_builder.source import Block, Coverage, Sample, Shard
from index_builder.truth import exact_top_k
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import IndexSettings, Settings
from lookalike.contracts.space import EmbeddingSpace

ITEMS, DIM, QUERIES, NLIST = 20_000, 64, 500, 256
AGREE = 0.999
"""Share of the vectors that go to the very same list; of the others two centres are as near within NEAR."""
NEAR = 1e-5
RECALL = 0.01
FILES = {
    "hnsw": {"index.faiss", "items.arrow", "attributes.sets"},
    "ivf_pq": {"index.faiss", "refine.faiss", "centres.faiss", "axes.npz", "items.arrow", "attributes.sets"},
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(lacking(0)), reason=f"takes an NVIDIA GPU and faiss-gpu-cuvs (extra index-gpu): {lacking(0)}"
    ),
]


def clustered(count: int, seed: int) -> np.ndarray:
    """Unit vectors around 200 centres."""
    random, middles = np.random.default_rng(seed), np.random.default_rng(99).normal(size=(200, DIM))
    vectors = middles[random.integers(0, 200, count)] + 0.6 * random.normal(size=(count, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class InMemory:
    """A source of one shard."""

    vectors: np.ndarray

    versions: ClassVar = {"numbers": 1}
    space: ClassVar = EmbeddingSpace(
        encoder="t", weights_sha256="a" * 64, preprocessing_sha256="b" * 64, tokenizer_sha256="c" * 64, dim=DIM
    )

    def count(self) -> int:
        return len(self.vectors)

    def item_bytes(self) -> float:
        return 400.0

    def shards(self, items: int) -> tuple[Shard, ...]:
        return (Shard(number=0, start=None, stop=None),)

    def sample(self, wanted: int, scratch: Path, progress: LogProgress) -> Sample:
        rows = np.linspace(0, len(self.vectors) - 1, min(wanted, len(self.vectors))).astype(np.int64)
        return Sample(self.vectors[rows], pa.chunked_array([[f"title {row}" for row in rows]]))

    def blocks(self, shard: Shard, scratch: Path, progress: LogProgress) -> Iterator[Block]:
        names = [f"{row:08d}" for row in range(len(self.vectors))]
        items = pa.table({"item_id": names, "title": names, "brand": [f"brand {row % 7}" for row in range(len(names))]})
        yield Block(items, self.vectors, Coverage(silver_items=len(names), indexed=len(names)))

    def explain_nothing(self) -> NoReturn:
        raise AssertionError("there are vectors")


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return clustered(ITEMS, 1)


@pytest.fixture(scope="module", params=sorted(FILES))
def pair(request, vectors, tmp_path_factory) -> dict[str, FaissIndex]:
    """The same recipe built on either device, opened, in the order cpu, gpu."""
    folder = tmp_path_factory.mktemp(request.param)
    for device in ("cpu", "gpu"):
        index = IndexSettings(recipe=request.param, device=device, build_memory_bytes=16 * 2**30)
        build(Settings(home=folder / "home", index=index), InMemory(vectors), folder / device, LogProgress())
    return {device: open_index(folder / device) for device in ("cpu", "gpu")}


def test_files_and_formats_are_the_same(pair):
    cpu, gpu = pair["cpu"], pair["gpu"]
    recipe = cpu.manifest.recipe.name
    assert set(cpu.manifest.files) == set(gpu.manifest.files) == FILES[recipe]
    assert cpu.manifest.recipe == gpu.manifest.recipe and cpu.manifest.space == gpu.manifest.space
    assert type(cpu._coarse) is type(gpu._coarse)
    for name in ("items.arrow", "attributes.sets"):
        assert cpu.manifest.files[name] == gpu.manifest.files[name]
    sizes = [index.manifest.files["index.faiss"].bytes for index in (cpu, gpu)]
    assert abs(sizes[0] - sizes[1]) <= 0.02 * sizes[0]  # lists end in half-full blocks


def test_the_facts_say_which_device_did_what(pair):
    for device, index in pair.items():
        told = index.manifest.build["devices"]
        assert told and all(counts == {device: 1} for counts in told.values()), told


def test_recall_is_the_same_within_a_hundredth(pair, vectors):
    queries = clustered(QUERIES, 2)
    true = exact_top_k(vectors, queries, 10)[1]
    search = pair["cpu"].manifest.recipe.search
    found = {device: index.search_with(search, queries, 10)[1] for device, index in pair.items()}
    recall = {
        device: np.mean([np.isin(one, other).mean() for one, other in zip(true, rows, strict=True)])
        for device, rows in found.items()
    }
    assert abs(recall["cpu"] - recall["gpu"]) <= RECALL, (search, recall)
    bar = IndexSettings().recall - RECALL
    assert all(max(point.recall_at_10 for point in each.manifest.operating_points) >= bar for each in pair.values())


def test_lists_are_found_for_every_vector_as_the_cpu_finds_them(vectors):
    centres = find_centres(vectors, NLIST)
    cpu, gpu = ListCentres.of(centres).nearest_of(vectors), CentresOnGpu(centres).nearest_of(vectors)
    differ = np.flatnonzero(cpu != gpu)
    assert len(differ) <= (1 - AGREE) * len(vectors)
    here = (vectors[differ] * centres[cpu[differ]]).sum(axis=1, dtype=np.float64)
    there = (vectors[differ] * centres[gpu[differ]]).sum(axis=1, dtype=np.float64)
    np.testing.assert_allclose(here, there, atol=NEAR)


def test_trained_centres_lie_as_near(vectors):
    def distance(centres: np.ndarray) -> float:
        assert centres.shape == (NLIST, DIM) and centres.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 1, atol=1e-5)
        return float((2 - 2 * (held_out @ centres.T).max(axis=1)).mean())

    held_out = clustered(5_000, 3)
    assert distance(find_centres(vectors, NLIST, "gpu")) == pytest.approx(
        distance(find_centres(vectors, NLIST)), rel=0.01
    )


def test_a_graph_of_the_gpu_is_read_where_there_is_none(pair):
    if pair["gpu"].manifest.recipe.name == "hnsw":
        assert type(faiss.downcast_index(pair["gpu"]._index)) is faiss.IndexHNSWFlat
