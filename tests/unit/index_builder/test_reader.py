import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from index_builder import plan as plans
from index_builder import reader as readers
from index_builder.reader import open_index
from index_builder.truth import exact_top_k
from lookalike.contracts.errors import CorruptArtifact
from lookalike.contracts.row_set import RowSet

DIM, ITEMS, K = 32, 3_000, 10
RECIPES = ("exact", "hnsw", "ivf_pq")
FILES = {
    False: {"index.faiss", "items.arrow", "attributes.sets"},
    True: {"index.faiss", "items.arrow", "attributes.sets", "refine.faiss"},
}


def brute(index, queries, k, allowed=None):
    """Sets of the best rows over the vectors as stored, by a plain sort; only allowed rows."""
    dots = queries @ index.vectors(np.arange(ITEMS)).T
    if allowed is not None:
        dots[:, ~allowed] = -np.inf
    return np.argsort(-dots, axis=1, kind="stable")[:, :k]


def recall(found, truth):
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), truth.tolist(), strict=True)])


def test_recall_without_a_filter(index, catalogue, queries):
    _, truth = exact_top_k(catalogue.vectors_by_id(), queries, K)
    scores, rows = index.search(queries, K)
    assert recall(rows, truth) >= 0.95
    assert scores.dtype == np.float32 and rows.dtype == np.int64
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.fixture
def by_the_index(monkeypatch):
    """Comparing all allowed rows never seems cheaper."""
    monkeypatch.setattr(plans, "FEW_ROWS", 0)
    monkeypatch.setattr(plans, "index_work", lambda *_: 0.0)
    monkeypatch.setattr(readers, "STEP_WORK", 0.0)


def check_filtered(index, queries, share, least):
    allowed = np.random.default_rng(8).random(ITEMS) < share
    there = min(K, int(allowed.sum()))
    assert there > 0
    scores, rows = index.search(queries, K, RowSet.of(allowed))
    assert (rows[:, :there] >= 0).all()
    assert (rows[:, there:] == -1).all() and np.isneginf(scores[:, there:]).all()
    assert allowed[rows[:, :there]].all()
    assert all(len(set(row)) == there for row in rows[:, :there].tolist())
    assert recall(rows[:, :there], brute(index, queries, there, allowed)) >= least


@pytest.mark.parametrize("share", [0.5, 0.05, 0.001])
def test_filters_give_k_allowed_rows_and_the_right_ones(index, queries, share):
    check_filtered(index, queries, share, 1.0 if share < 0.1 else 0.95)


@pytest.mark.parametrize("share", [0.5, 0.05, 0.001])
def test_so_they_do_by_the_index(index, queries, share, by_the_index):
    check_filtered(index, queries, share, 0.95)


@pytest.mark.parametrize("clusters", [1, 10, 40])
def test_rows_that_lie_together_are_found_from_anywhere(index, queries, by_the_index, clusters):
    """Allowed are the rows nearest to a few of them: most queries lie elsewhere."""
    stored = index.vectors(np.arange(ITEMS))
    allowed = (stored @ stored[np.arange(clusters) * 71].T).max(axis=1) > 0.6
    assert K <= allowed.sum() < ITEMS / 2
    _, rows = index.search(queries, K, RowSet.of(allowed))
    assert allowed[rows].all()
    assert recall(rows, brute(index, queries, K, allowed)) >= 0.95


def test_what_a_graph_cannot_reach_is_compared_exactly(built, queries, by_the_index):
    """Allowed are only the 12 rows farthest from the query: no walk near the query meets them."""
    index = open_index(built["hnsw"])
    for query in queries[:10]:
        farthest = np.argsort(index.vectors(np.arange(ITEMS)) @ query)[:12]
        allowed = np.isin(np.arange(ITEMS), farthest)
        _, rows, plan = index.planned_search(query[None], K, RowSet.of(allowed))
        assert plan == "exact"
        np.testing.assert_array_equal(np.sort(rows), np.sort(brute(index, query[None], K, allowed)))


def test_scores_are_inner_products_with_the_stored_vectors(index, queries):
    allowed = np.random.default_rng(8).random(ITEMS) < 0.5
    for mask in (None, RowSet.of(allowed)):
        for exact in (False, True):
            scores, rows = index.search(queries, K, mask, exact)
            stored = index.vectors(rows.ravel()).reshape(len(queries), K, DIM)
            np.testing.assert_allclose(scores, np.einsum("qd,qkd->qk", queries, stored), atol=1e-4)


def test_exact_on_demand(index, queries):
    _, rows, plan = index.planned_search(queries, K, exact=True)
    assert plan == "exact"
    assert recall(rows, brute(index, queries, K)) == 1.0


def test_plan_is_told_honestly(built, queries, monkeypatch):
    monkeypatch.setattr(plans, "FEW_ROWS", 20)
    monkeypatch.setattr(plans, "STEP_WORK", 0.0)
    monkeypatch.setattr(readers, "STEP_WORK", 0.0)
    half, few = RowSet.of(np.arange(ITEMS) % 2 == 0), RowSet.of(np.arange(ITEMS) < 20)
    told = {name: open_index(path) for name, path in built.items()}
    for name, index in told.items():
        assert index.planned_search(queries, K)[2] == ("exact" if name == "exact" else "index")
        assert index.planned_search(queries, K, half)[2] == ("exact" if name == "exact" else "index")
        assert index.planned_search(queries, K, few)[2] == "exact"


def test_deep_pages_are_full(index, queries):
    allowed = RowSet.of(np.arange(ITEMS) % 3 != 0)
    for k, mask in ((1_500, None), (1_999, allowed), (2_000, allowed), (ITEMS, None), (ITEMS + 5, None)):
        there = min(k, ITEMS if mask is None else mask.count)
        _, rows = index.search(queries[:2], k, mask)
        assert rows.shape == (2, k)
        assert all(len(set(row) - {-1}) == there for row in rows.tolist())


def test_nothing_allowed_and_no_queries(index, queries):
    scores, rows = index.search(queries, K, RowSet.of(np.zeros(ITEMS, bool)))
    assert (rows == -1).all() and np.isneginf(scores).all()
    assert index.search(queries[:0], K)[1].shape == (0, K)


def test_wrong_shapes_are_named(index, queries):
    with pytest.raises(ValueError, match=rf"\(n, {DIM}\)"):
        index.search(queries[:, :-1], K)
    with pytest.raises(ValueError, match=rf"{ITEMS} rows; got {ITEMS - 1}"):
        index.search(queries, K, RowSet.every(ITEMS - 1))
    for bad in (-1, ITEMS):
        with pytest.raises(IndexError):
            index.vectors(np.array([bad]))


def test_rows_of(index, catalogue):
    wanted = [*catalogue.ids[:50], "", "brand:item-99999", "brand:item-0000", "~"]
    rows = index.rows_of(wanted)
    assert rows[50:].tolist() == [-1] * 4
    assert [sorted(catalogue.ids)[row] for row in rows[:50]] == wanted[:50]


def test_threads_agree(index, queries):
    alone = [index.search(query[None], K)[1] for query in queries]
    half = RowSet.of(np.arange(ITEMS) % 2 == 0)
    masked = [index.search(query[None], K, half)[1] for query in queries]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            plain = list(pool.map(lambda query: index.search(query[None], K)[1], queries))
            filtered = list(pool.map(lambda query: index.search(query[None], K, half)[1], queries))
            np.testing.assert_array_equal(plain, alone)
            np.testing.assert_array_equal(filtered, masked)


@pytest.mark.parametrize("recipe", RECIPES)
def test_files_are_mapped_and_may_be_read_only(built, recipe, tmp_path, queries):
    folder = tmp_path / "sealed"
    shutil.copytree(built[recipe], folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    index = open_index(folder)
    index.search(queries, K, RowSet.of(np.arange(ITEMS) % 2 == 0))
    maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(folder) in line]
    assert {line.rsplit("/", 1)[1] for line in maps} == FILES[recipe == "ivf_pq"]
    assert not any("w" in line.split()[1] and "s" in line.split()[1] for line in maps)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.fixture
def copy(built, tmp_path):
    shutil.copytree(built["ivf_pq"], tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize(
    "name", ["index.faiss", "items.arrow", "refine.faiss", "attributes.sets", "centres.faiss", "axes.npz"]
)
def test_a_flipped_byte_is_found(copy, name):
    path = copy / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptArtifact, match=rf"{name} has sha256 [0-9a-f]{{64}}; the manifest says [0-9a-f]{{64}}"):
        open_index(copy)


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize(
    "name", ["index.faiss", "items.arrow", "refine.faiss", "attributes.sets", "centres.faiss", "axes.npz"]
)
def test_a_missing_or_cut_file_is_found(copy, name, verify):
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[:-1])
    with pytest.raises(CorruptArtifact, match=f"{name} has .* bytes"):
        open_index(copy, verify=verify)
    (copy / name).unlink()
    with pytest.raises(CorruptArtifact, match=f"{name} is missing"):
        open_index(copy, verify=verify)


def test_a_manifest_that_is_missing_broken_or_of_other_files(copy, built):
    manifest = (copy / "manifest.json").read_text()
    for text, message in (
        ("{", "not a manifest"),
        (manifest.replace('"items.arrow"', '"../items.arrow"'), "not a plain file name"),
        (manifest.replace(f'"items": {ITEMS}', '"items": 7'), "says 7 items"),
        (manifest.replace(f'"dim": {DIM}', '"dim": 31'), "of 31 dimensions"),
    ):
        assert text != manifest
        (copy / "manifest.json").write_text(text)
        with pytest.raises(CorruptArtifact, match=message):
            open_index(copy)
    (copy / "manifest.json").unlink()
    with pytest.raises(CorruptArtifact, match="is missing"):
        open_index(copy)
