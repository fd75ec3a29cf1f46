"""Exact search and recall against brute force, and the faults that they must see."""

import numpy as np
import pytest

from lookalike.evaluation.metrics import recall_at_k
from lookalike.evaluation.truth import Reference, coverage, exact_top_k, lowest_stored_cosine, recall_per_query


@pytest.fixture
def reference(small_catalogue):
    return Reference(small_catalogue.item_ids, small_catalogue.vectors)


@pytest.mark.parametrize("block", [1, 7, 64, 1_000])
def test_exact_top_k_equals_a_full_sort(small_catalogue, block):
    vectors, queries = small_catalogue.vectors, small_catalogue.vectors[:20]
    scores, rows = exact_top_k(vectors, queries, 10, block=block)
    full = queries @ vectors.T
    assert rows.tolist() == np.argsort(-full, axis=1, kind="stable")[:, :10].tolist()
    assert np.allclose(scores, np.sort(full, axis=1)[:, ::-1][:, :10])


def test_a_perfect_index_has_recall_one_in_any_row_order(small_catalogue, reference):
    order = np.random.default_rng(1).permutation(180)
    index = small_catalogue.index(keep=order)
    values = recall_per_query(index, reference, reference.vectors[:50], 10, np.arange(50))
    assert values.tolist() == [1.0] * 50


def test_recall_of_a_blind_index_equals_the_share_of_common_ids(small_catalogue, reference):
    index = small_catalogue.index()
    index.blind = set(range(0, 180, 3))
    queries = reference.vectors[:60]
    values = recall_per_query(index, reference, queries, 10)
    _, exact = exact_top_k(reference.vectors, queries, 10)
    _, found = index.search(queries, 10)
    assert values.tolist() == pytest.approx(recall_at_k(found, exact, 10).tolist())
    assert 0.5 < values.mean() < 0.8


def test_an_index_with_wrong_vectors_is_found_although_it_agrees_with_itself(small_catalogue, reference):
    swapped = np.roll(small_catalogue.vectors, 3, axis=0)
    index = small_catalogue.index(vectors=swapped)
    assert recall_per_query(index, reference, reference.vectors[:60], 10).mean() < 0.5
    assert lowest_stored_cosine(index, reference, seed=1) < 0.5


def test_one_wrong_vector_is_seen_in_the_stored_vectors(small_catalogue, reference):
    index = small_catalogue.index()
    assert lowest_stored_cosine(index, reference, seed=1) == pytest.approx(1.0)
    index.held[77] = -index.held[77]
    assert lowest_stored_cosine(index, reference, seed=1) == pytest.approx(-1.0)


def test_finding_only_the_query_item_is_worth_nothing(small_catalogue, reference):
    index = small_catalogue.index()
    index.blind = set(range(1, 180))
    assert recall_per_query(index, reference, reference.vectors[:1], 10, np.array([0])).tolist() == [0.0]
    assert recall_per_query(index, reference, reference.vectors[:1], 10)[0] == pytest.approx(0.1)


def test_equal_pictures_may_answer_in_any_order(small_catalogue):
    vectors = np.repeat(small_catalogue.vectors[:1], 30, axis=0)
    reference = Reference([f"item-{i}" for i in range(30)], vectors)
    index = small_catalogue.index()
    index.item_ids, index.held = reference.item_ids[::-1], vectors[::-1].copy()
    assert recall_per_query(index, reference, vectors[:1], 10).tolist() == [1.0]


def test_an_item_found_twice_counts_once(small_catalogue, reference):
    index = small_catalogue.index(keep=[0] * 20 + list(range(180)))
    assert recall_per_query(index, reference, reference.vectors[:1], 10)[0] == pytest.approx(0.1)
    held = coverage(index, reference)
    assert (held.items, held.missing, held.foreign, held.duplicates) == (200, 0, 0, 20)


def test_coverage_counts_missing_and_foreign_items(small_catalogue, reference):
    index = small_catalogue.index(keep=range(0, 180, 2))
    index.item_ids[0] = "stranger"
    held = coverage(index, reference)
    assert (held.items, held.missing, held.foreign, held.duplicates) == (90, 91, 1, 0)


def test_nan_gives_nan_and_never_a_good_figure(small_catalogue):
    vectors = small_catalogue.vectors.copy()
    vectors[3, 0] = np.nan
    reference = Reference(small_catalogue.item_ids, vectors)
    index = small_catalogue.index(vectors=vectors)
    assert np.isnan(recall_per_query(index, reference, small_catalogue.vectors[:5], 10)).all()
    assert np.isnan(lowest_stored_cosine(index, reference, seed=1))
