"""What a build does with a GPU, where faiss on the CPU stands in for the two things that a GPU is asked for: comparing
vectors with centres, and a graph of neighbours. What a GPU itself answers is tested in test_gpu_parity.py."""

from dataclasses import dataclass

import faiss
import numpy as np
import pytest

from index_builder import assign, clustering, gpu, graphs
from index_builder.assign import nearest_centre
from index_builder.build import build
from index_builder.clustering import find_centres
from index_builder.gpu import CentresOnGpu, rows_at_a_time
from index_builder.graphs import fill, link
from index_builder.list_centres import ListCentres
from index_builder.parts import empty_index, one_thread
from index_builder.pin import make_pin
from index_builder.reader import open_index
from index_builder.recipes import load_recipe
from index_builder.truth import exact_top_k
from lookalike.contracts.errors import MissingPrerequisite
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.row_set import RowSet

ROWS, DEEP = 3_000, 128
HNSW = load_recipe("hnsw")


@dataclass
class Asked:
    """A flat index that keeps how many rows it was asked for at a time."""

    index: faiss.IndexFlatIP
    rows: list[int]

    def add(self, vectors):
        self.index.add(vectors)

    def search(self, vectors, k):
        self.rows.append(len(vectors))
        return self.index.search(vectors, k)


def nearest_rows(vectors: np.ndarray, degree: int = gpu.GRAPH_DEGREE) -> np.ndarray:
    """Neighbours by comparing all, each row the first of its own, which a graph must not keep."""
    return exact_top_k(vectors, vectors, degree)[1].astype(np.int32)


@pytest.fixture
def vectors(kit):
    return kit.clustered(ROWS, 5)


@pytest.fixture
def without_gpu(monkeypatch):
    monkeypatch.delattr(faiss, "StandardGpuResources", raising=False)


@pytest.fixture
def stand_in(monkeypatch):
    """faiss on the CPU does what a GPU would."""
    monkeypatch.setattr(gpu, "flat_index", faiss.IndexFlatIP)
    monkeypatch.setattr(gpu, "neighbours", nearest_rows)
    for module in (clustering, graphs):
        monkeypatch.setattr(module, "require_gpu", lambda needed, what: None)
    monkeypatch.setattr(assign, "lacking", lambda needed: "")
    monkeypatch.setattr("index_builder.device.lacking", lambda needed: "")


def searched(index, queries, k=10):
    return index.search(queries, k, params=faiss.SearchParametersHNSW(efSearch=DEEP))[1]


def recall(found, vectors, queries):
    true = exact_top_k(vectors, queries, found.shape[1])[1]
    return np.mean(
        [len(set(one) & set(other)) / len(other) for one, other in zip(found.tolist(), true.tolist(), strict=True)]
    )


class NoStep:
    def advance(self, count: int) -> None: ...


def halves(vectors):
    return np.array_split(vectors, 2)


def test_on_a_gpu_many_lists_are_trained_at_once(vectors, kit, stand_in, monkeypatch):
    asked = []
    monkeypatch.setattr(gpu, "flat_index", lambda dim: asked.append(dim) or faiss.IndexFlatIP(dim))
    monkeypatch.setattr(clustering, "MANY_LISTS", 10**9)
    at_once = find_centres(vectors, 128)
    monkeypatch.setattr(clustering, "MANY_LISTS", 64)
    assert not np.array_equal(find_centres(vectors, 128), at_once)  # in two levels
    assert asked == []
    np.testing.assert_array_equal(find_centres(vectors, 128, "gpu"), at_once)
    assert asked == [kit.DIM]


def test_training_without_the_gpu_it_was_pinned_for_stops(vectors, without_gpu):
    with pytest.raises(MissingPrerequisite, match=r"pinned where there is a GPU, and training takes one.*index-gpu"):
        find_centres(vectors, 64, "gpu")


def test_vectors_are_sent_in_blocks_and_each_gets_its_own_list(vectors, kit, monkeypatch):
    asked = Asked(faiss.IndexFlatIP(kit.DIM), [])
    monkeypatch.setattr(gpu, "flat_index", lambda dim: asked)
    monkeypatch.setattr(gpu, "BLOCK_BYTES", 4 * kit.DIM * 700 + 3)
    centres = vectors[::30].copy()
    found = CentresOnGpu(centres).nearest_of(vectors)
    np.testing.assert_array_equal(found, (vectors @ centres.T).argmax(axis=1))
    assert asked.rows == [700, 700, 700, 700, 200]


def test_a_block_has_one_row_at_least_and_no_more_bytes_than_are_meant():
    assert rows_at_a_time(512) * 512 * 4 <= gpu.BLOCK_BYTES < (rows_at_a_time(512) + 1) * 512 * 4
    assert rows_at_a_time(gpu.BLOCK_BYTES) == 1


def test_who_finds_lists_follows_the_pin_and_the_machine(vectors, stand_in, monkeypatch):
    centres = ListCentres.of(vectors[:50])
    assert nearest_centre(centres, "cpu") == (centres, "cpu")
    finder, device = nearest_centre(centres, "gpu")
    assert device == "gpu" and isinstance(finder, CentresOnGpu)
    np.testing.assert_array_equal(finder.nearest_of(vectors), centres.nearest_of(vectors))
    monkeypatch.setattr(assign, "lacking", lambda needed: "there is none")
    assert nearest_centre(centres, "gpu") == (centres, "cpu")  # shards may be encoded anywhere


def test_a_graph_of_the_cpu_has_the_bytes_that_inserting_row_by_row_gives(vectors, kit):
    expected = empty_index(HNSW, kit.DIM)
    with one_thread():
        for block in halves(vectors):
            expected.add(block)
    made = fill(HNSW, kit.DIM, ROWS, halves(vectors), "cpu", NoStep())
    np.testing.assert_array_equal(faiss.serialize_index(made), faiss.serialize_index(expected))


def test_the_lowest_level_of_another_graph_makes_the_same_search(vectors, kit):
    """What is written is what was given: taken from a whole graph, it is found again, byte for byte."""
    whole = fill(HNSW, kit.DIM, ROWS, halves(vectors), "cpu", NoStep())
    lowest = faiss.vector_to_array(whole.hnsw.neighbors)[
        faiss.vector_to_array(whole.hnsw.offsets)[:-1, None].astype(int) + np.arange(64)
    ]
    upper = empty_index(HNSW, kit.DIM)
    upper.init_level0 = False
    with one_thread():
        for block in halves(vectors):
            upper.add(block)
    link(upper, lowest)
    starts = faiss.vector_to_array(upper.hnsw.offsets)[:-1, None].astype(int)
    np.testing.assert_array_equal(faiss.vector_to_array(upper.hnsw.neighbors)[starts + np.arange(64)], lowest)
    queries = kit.clustered(100, 6)
    assert (
        recall(searched(upper, queries), vectors, queries) > recall(searched(whole, queries), vectors, queries) - 0.005
    )


def test_rows_that_are_none_or_the_row_itself_are_left_out_and_the_others_keep_their_order(kit, monkeypatch):
    monkeypatch.setattr(graphs, "ROWS_LINKED", 3)
    index = empty_index(HNSW, kit.DIM)
    index.init_level0 = False
    index.add(kit.clustered(8, 1))
    given = np.array([[5, row, -1, 7, 8, 2_000_000_000, 2] for row in range(8)], np.int32)
    link(index, given)
    links = faiss.vector_to_array(index.hnsw.neighbors)
    starts = faiss.vector_to_array(index.hnsw.offsets).astype(int)
    for row in range(8):
        kept = [each for each in given[row].tolist() if 0 <= each < 8 and each != row]
        assert links[starts[row] : starts[row] + 64].tolist() == kept + [-1] * (64 - len(kept))
    with pytest.raises(ValueError, match="at most 64 each"):
        link(index, np.zeros((8, 65), np.int32))
    with pytest.raises(ValueError, match="neighbours of 8 rows"):
        link(index, np.zeros((7, 64), np.int32))


def test_a_graph_from_neighbours_is_an_ordinary_one_on_disk_and_as_good(vectors, kit, stand_in, tmp_path):
    made = fill(HNSW, kit.DIM, ROWS, halves(vectors), "gpu", NoStep())
    of_cpu = fill(HNSW, kit.DIM, ROWS, halves(vectors), "cpu", NoStep())
    for name, index in {"gpu": made, "cpu": of_cpu}.items():
        faiss.write_index(index, str(tmp_path / name))
    assert (tmp_path / "gpu").read_bytes()[:4] == (tmp_path / "cpu").read_bytes()[:4] == b"IHNf"
    assert (tmp_path / "gpu").stat().st_size == (tmp_path / "cpu").stat().st_size
    opened = faiss.read_index(str(tmp_path / "gpu"), faiss.IO_FLAG_MMAP_IFC)
    assert type(opened) is faiss.IndexHNSWFlat
    queries = kit.clustered(200, 6)
    assert (
        recall(searched(opened, queries), vectors, queries) > recall(searched(of_cpu, queries), vectors, queries) - 0.01
    )


def test_before_a_gpu_links_them_only_rows_of_upper_levels_are_inserted(vectors, kit, stand_in, monkeypatch):
    monkeypatch.setattr(graphs, "link", lambda index, neighbours: None)
    made = fill(HNSW, kit.DIM, ROWS, halves(vectors), "gpu", NoStep())
    starts = faiss.vector_to_array(made.hnsw.offsets)[:-1].astype(int)
    lowest_only = starts[faiss.vector_to_array(made.hnsw.levels) == 1]
    assert 0.9 * ROWS < len(lowest_only) < ROWS
    assert (faiss.vector_to_array(made.hnsw.neighbors)[lowest_only[:, None] + np.arange(64)] == -1).all()


def test_a_small_graph_is_left_to_the_cpu(vectors, kit, without_gpu):
    few = vectors[: graphs.FEWEST_ROWS - 1]
    made = fill(HNSW, kit.DIM, len(few), [few], "gpu", NoStep())
    expected = fill(HNSW, kit.DIM, len(few), [few], "cpu", NoStep())
    np.testing.assert_array_equal(faiss.serialize_index(made), faiss.serialize_index(expected))
    with pytest.raises(MissingPrerequisite, match="making the graph"):
        fill(HNSW, kit.DIM, ROWS, halves(vectors), "gpu", NoStep())


@pytest.mark.parametrize("recipe", ["hnsw", "ivf_pq"])
def test_a_build_with_a_gpu_is_the_same_kind_of_artifact_and_its_facts_say_what_did_what(
    recipe, catalogue, built, stand_in, tmp_path, queries
):
    demanded = catalogue.settings.model_copy(
        update={"index": catalogue.settings.index.model_copy(update={"device": "gpu"})}
    )
    assert make_pin(demanded, catalogue.source, recipe).device == "gpu"
    manifest = build(demanded, catalogue.source, tmp_path / recipe, LogProgress(), recipe)
    before = open_index(built[recipe])
    assert set(manifest.files) == set(before.manifest.files)
    told = {"hnsw": {"make the graph"}, "ivf_pq": {"train lists", "find the list of each vector"}}[recipe]
    assert manifest.build["devices"] == {what: {"gpu": 1} for what in told}
    assert before.manifest.build["devices"] == {what: {"cpu": 1} for what in told}
    index = open_index(tmp_path / recipe)
    for chosen in (None, RowSet.of(np.arange(manifest.items) % 2 == 0)):
        scores, rows = index.search(queries, 10, chosen)
        assert (rows >= 0).all() and (np.diff(scores, axis=1) <= 0).all()
        assert np.mean(rows == before.search(queries, 10, chosen)[1]) > 0.9
