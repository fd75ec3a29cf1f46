"""List centres in two levels: as near to the vectors as plain k-means', shared fairly, and the same every time."""

import faiss
import numpy as np
import pytest

from index_builder import clustering, list_centres
from index_builder.clustering import allotted, find_centres

NLIST = 256


@pytest.fixture
def sample(kit):
    return kit.clustered(10_000, 3)


def error(centres, vectors):
    """Mean squared distance to the nearest centre, by a plain product."""
    return float((2 - 2 * (vectors @ centres.T).max(axis=1)).mean())


@pytest.fixture
def in_two_levels(monkeypatch):
    """And through groups."""
    for module in (clustering, list_centres):
        monkeypatch.setattr(module, "MANY_LISTS", 64)


def test_two_levels_are_about_as_near_as_one(sample, kit, monkeypatch):
    flat = find_centres(sample, NLIST)
    monkeypatch.setattr(clustering, "MANY_LISTS", 64)
    two = find_centres(sample, NLIST)
    assert two.shape == (NLIST, kit.DIM) and two.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(two, axis=1), 1, atol=1e-5)
    held_out = kit.clustered(5_000, 4)
    assert error(two, held_out) <= 1.02 * error(flat, held_out)


def test_rounds_over_all_centres_win_back_what_the_borders_lose(sample, in_two_levels, monkeypatch):
    refined = error(find_centres(sample, NLIST), sample)
    monkeypatch.setattr(clustering, "LAST_ROUNDS", 0)
    assert refined < 0.995 * error(find_centres(sample, NLIST), sample)


def test_the_same_sample_gives_the_same_centres_with_any_threads(sample, in_two_levels):
    one = find_centres(sample, NLIST)
    threads = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(3)
        np.testing.assert_array_equal(find_centres(sample, NLIST), one)
    finally:
        faiss.omp_set_num_threads(threads)


def test_a_centre_moves_to_the_middle_of_its_vectors_and_an_idle_one_stays(sample, monkeypatch):
    monkeypatch.setattr(clustering, "BLOCK_ROWS", 700)
    centres, nearest = sample[:5].copy(), np.arange(len(sample)) % 4
    moved = clustering._moved(centres, sample, nearest)
    for number in range(4):
        middle = sample[nearest == number].astype(np.float64).sum(axis=0)
        np.testing.assert_allclose(moved[number], middle / np.linalg.norm(middle), atol=1e-6)
    np.testing.assert_array_equal(moved[4], centres[4])


@pytest.mark.parametrize(
    ("counts", "total", "expected"),
    [
        ([100, 100, 200], 8, [2, 2, 4]),
        ([1, 0, 999], 10, [1, 0, 9]),
        ([1, 1, 1, 97], 4, [1, 1, 1, 1]),
        ([3, 3, 3], 9, [3, 3, 3]),
        ([10, 10, 10], 10, [4, 3, 3]),
    ],
)
def test_shares_are_in_proportion_and_at_least_one(counts, total, expected):
    assert allotted(np.array(counts), total).tolist() == expected


def test_shares_of_random_groups_add_up_and_fit():
    random = np.random.default_rng(0)
    for _ in range(300):
        counts = random.integers(0, random.integers(1, 60), random.integers(1, 40))
        if counts.sum() == 0:
            continue
        total = int(random.integers((counts > 0).sum(), counts.sum() + 1))
        shares = allotted(counts, total)
        assert shares.sum() == total and (shares <= counts).all() and ((shares > 0) == (counts > 0)).all()
    with pytest.raises(ValueError, match="cannot be shared"):
        allotted(np.array([1, 2]), 4)
