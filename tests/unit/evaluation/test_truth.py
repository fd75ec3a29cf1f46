"""Exact search and recall against brute force, and the faults that they must see."""

import numpy as np
import pytest

from lookalike.contracts.item_keys import NO_PLACE
from lookalike.contracts.row_set import RowSet
from lookalike.evaluation.metrics import recall_at_k
from lookalike.evaluation.truth import Asked, Nearest, Reference, compare


@pytest.fixture
def reference(small_catalogue):
    return Reference.held(small_catalogue.item_ids, small_catalogue.vectors, block=50)


def recall_per_query(index, reference, queries, k, itself=None, **filtered):
    own = np.full(len(queries), NO_PLACE) if itself is None else itself
    return compare(index, reference, [Asked(queries, own, **filtered)], k, seed=1)[0][0].recall


def coverage(index, reference):
    return compare(index, reference, [], 10, seed=1)[1]


def lowest_stored_cosine(index, reference, seed):
    return compare(index, reference, [], 10, seed)[2]


@pytest.mark.parametrize("block", [1, 7, 64, 1_000])
def test_the_nearest_of_all_blocks_equal_a_full_sort(small_catalogue, block):
    vectors, queries = small_catalogue.vectors, small_catalogue.vectors[:20]
    nearest, order = Nearest(20, 10), np.random.default_rng(1).permutation(180)
    for start in range(0, 180, block):
        nearest.see(queries @ vectors[order[start : start + block]].T, order[start : start + block])
    full = queries @ vectors.T
    assert nearest.places.tolist() == np.argsort(-full, axis=1, kind="stable")[:, :10].tolist()
    assert np.allclose(nearest.scores, np.sort(full, axis=1)[:, ::-1][:, :10])


def test_a_perfect_index_has_recall_one_in_any_row_order(small_catalogue, reference):
    order = np.random.default_rng(1).permutation(180)
    index = small_catalogue.index(keep=order)
    values = recall_per_query(
        index, reference, small_catalogue.vectors[:50], 10, reference.places(small_catalogue.item_ids[:50])
    )
    assert values.tolist() == [1.0] * 50


def test_recall_of_a_blind_index_equals_the_share_of_common_ids(small_catalogue, reference):
    index = small_catalogue.index()
    index.blind = set(range(0, 180, 3))
    queries = small_catalogue.vectors[:60]
    values = recall_per_query(index, reference, queries, 10)
    exact = np.argsort(-queries @ small_catalogue.vectors.T, axis=1)[:, :10]
    _, found = index.search(queries, 10)
    assert values.tolist() == pytest.approx(recall_at_k(found, exact, 10).tolist())
    assert 0.5 < values.mean() < 0.8


def test_an_index_with_wrong_vectors_is_found_although_it_agrees_with_itself(small_catalogue, reference):
    swapped = np.roll(small_catalogue.vectors, 3, axis=0)
    index = small_catalogue.index(vectors=swapped)
    assert recall_per_query(index, reference, small_catalogue.vectors[:60], 10).mean() < 0.5
    assert lowest_stored_cosine(index, reference, seed=1) < 0.5


def test_one_wrong_vector_is_seen_in_the_stored_vectors(small_catalogue, reference):
    index = small_catalogue.index()
    assert lowest_stored_cosine(index, reference, seed=1) == pytest.approx(1.0)
    index.held[77] = -index.held[77]
    assert lowest_stored_cosine(index, reference, seed=1) == pytest.approx(-1.0)


def test_finding_only_the_query_item_is_worth_nothing(small_catalogue, reference):
    index = small_catalogue.index()
    index.blind = set(range(1, 180))
    own = reference.places(small_catalogue.item_ids[:1])
    assert recall_per_query(index, reference, small_catalogue.vectors[:1], 10, own).tolist() == [0.0]
    assert recall_per_query(index, reference, small_catalogue.vectors[:1], 10)[0] == pytest.approx(0.1)


def test_equal_pictures_may_answer_in_any_order(small_catalogue):
    vectors = np.repeat(small_catalogue.vectors[:1], 30, axis=0)
    item_ids = [f"item-{i}" for i in range(30)]
    reference = Reference.held(item_ids, vectors)
    index = small_catalogue.index()
    index.item_ids, index.held = item_ids[::-1], vectors[::-1].copy()
    assert recall_per_query(index, reference, vectors[:1], 10).tolist() == [1.0]


def test_an_item_found_twice_counts_once(small_catalogue, reference):
    index = small_catalogue.index(keep=[0] * 20 + list(range(180)))
    assert recall_per_query(index, reference, small_catalogue.vectors[:1], 10)[0] == pytest.approx(0.1)
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
    reference = Reference.held(small_catalogue.item_ids, vectors)
    index = small_catalogue.index(vectors=vectors)
    assert np.isnan(recall_per_query(index, reference, small_catalogue.vectors[:5], 10)).all()
    assert np.isnan(lowest_stored_cosine(index, reference, seed=1))


def naive_recall(small_catalogue, index, query, passing, own, k):
    """Share of the best k others that pass which the index finds, by ids and loops."""
    scores = {
        item: float(vector @ query)
        for item, vector in zip(small_catalogue.item_ids, small_catalogue.vectors, strict=True)
    }
    wanted = sorted((item for item in passing if item != own), key=lambda item: -scores[item])[:k]
    rows = RowSet.of(np.array([item in passing for item in index.item_ids]))
    _, found = index.search(query[None], k + 1, rows)
    kept = [item for item in (index.item_ids[row] for row in found[0] if row >= 0) if item != own][:k]
    return len(set(wanted) & set(kept)) / len(wanted)


@pytest.mark.parametrize("looked_at", [None, 40])
@pytest.mark.parametrize("share", [0.5, 0.05])
def test_recall_under_a_filter_equals_a_loop(small_catalogue, reference, looked_at, share):
    c, rng = small_catalogue, np.random.default_rng(4)
    order = rng.permutation(180)
    index = c.index(keep=order)
    index.looked_at = looked_at
    passing = {c.item_ids[row] for row in np.flatnonzero(rng.random(180) < share)}
    places = np.sort(reference.places(sorted(passing)))
    allowed = RowSet.of_rows(places, 180)
    asked = Asked(c.vectors[:30], reference.places(c.item_ids[:30]), allowed)
    (answered,), _, _ = compare(index, reference, [asked], 10, seed=1)
    expected = [naive_recall(c, index, c.vectors[i], passing, c.item_ids[i], 10) for i in range(30)]
    assert answered.recall.tolist() == pytest.approx(expected)
    assert (answered.short > 0) == (looked_at is not None and share < 0.1)
    assert answered.outside == 0


def test_answers_that_a_filter_keeps_out_are_counted(small_catalogue, reference):
    c = small_catalogue
    allowed = RowSet.of_rows(np.sort(reference.places(c.item_ids[:20])), 180)
    careless = RowSet.every(180)  # the index takes other rows for those that pass
    asked = Asked(c.vectors[:5], reference.places(c.item_ids[:5]), allowed, careless)
    (answered,), _, _ = compare(c.index(), reference, [asked], 10, seed=1)
    assert answered.outside > 0


def test_a_filter_that_leaves_only_the_question_itself_has_nothing_to_find(small_catalogue, reference):
    own = reference.places(small_catalogue.item_ids[:1])
    asked = Asked(small_catalogue.vectors[:1], own, RowSet.of_rows(own, 180))
    (answered,), _, _ = compare(small_catalogue.index(), reference, [asked], 10, seed=1)
    assert (answered.wanted.tolist(), answered.short, answered.outside) == ([0], 0, 0)
