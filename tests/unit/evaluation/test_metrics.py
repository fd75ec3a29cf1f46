"""Each metric against a loop over Python sets or a value worked out by hand."""

import math

import numpy as np
import pytest

from lookalike.evaluation.metrics import (
    hit_at_k,
    ndcg_at_k,
    precision_at_k,
    rank_of_first_relevant,
    recall_at_k,
    reciprocal_rank,
)


def test_recall_equals_set_intersection():
    rng = np.random.default_rng(0)
    found = np.array([rng.choice(30, 12, replace=False) for _ in range(40)])
    exact = np.array([rng.choice(30, 12, replace=False) for _ in range(40)])
    expected = [len(set(f[:10].tolist()) & set(e[:10].tolist())) / 10 for f, e in zip(found, exact, strict=True)]
    assert recall_at_k(found, exact, 10).tolist() == pytest.approx(expected)
    assert 0.0 < np.mean(expected) < 1.0


def test_recall_ignores_order_duplicates_and_missing_rows():
    exact = np.array([[1, 2, 3, -1], [4, 5, 6, 7], [-1, -1, -1, -1]])
    found = np.array([[3, 3, 3, 1], [-1, -1, 9, 4], [1, 2, 3, 4]])
    values = recall_at_k(found, exact, 4)
    assert values[:2].tolist() == pytest.approx([2 / 3, 1 / 4])
    assert math.isnan(values[2])


def test_hit_precision_and_reciprocal_rank_by_loops():
    relevant = np.random.default_rng(1).random((200, 10)) < 0.15
    for k in (1, 5, 10):
        assert hit_at_k(relevant, k).tolist() == [float(any(row[:k])) for row in relevant.tolist()]
        assert precision_at_k(relevant, k).tolist() == pytest.approx([sum(row[:k]) / k for row in relevant.tolist()])
    expected = [next((1 / (i + 1) for i, yes in enumerate(row) if yes), 0.0) for row in relevant.tolist()]
    assert reciprocal_rank(relevant).tolist() == pytest.approx(expected)


def test_ndcg_by_hand():
    # Gallery: one exact and two related. Results: related, exact, other -> gains 1, 3, 0.
    grades = np.array([[1, 2, 0]])
    gained = 1 / math.log2(2) + 3 / math.log2(3)
    ideal = 3 / math.log2(2) + 1 / math.log2(3) + 1 / math.log2(4)
    assert ndcg_at_k(grades, np.array([1]), np.array([2]), 3).tolist() == pytest.approx([gained / ideal])


def test_ndcg_equals_a_naive_loop_and_is_one_for_the_best_list():
    rng = np.random.default_rng(2)
    for _ in range(50):
        gallery = rng.integers(0, 3, size=30)
        expected = _naive_ndcg(gallery[:10].tolist(), gallery.tolist())
        totals = np.array([(gallery == 2).sum()]), np.array([(gallery == 1).sum()])
        assert ndcg_at_k(gallery[None, :], *totals, 10)[0] == pytest.approx(expected)
        assert ndcg_at_k(np.sort(gallery)[::-1][None, :], *totals, 10)[0] == pytest.approx(1.0)
    assert math.isnan(ndcg_at_k(np.zeros((1, 10), dtype=int), np.array([0]), np.array([0]), 10)[0])


def _naive_ndcg(found, gallery):
    def gain(grades):
        return sum((2**grade - 1) / math.log2(place + 2) for place, grade in enumerate(grades))

    return gain(found) / gain(sorted(gallery, reverse=True)[:10])


def test_rank_of_first_relevant_by_sorting():
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(100, 40)).astype(np.float32)
    relevant, ignored = rng.random((100, 40)) < 0.05, rng.random((100, 40)) < 0.2
    expected = []
    for line in range(100):
        order = [c for c in np.argsort(-scores[line]).tolist() if not ignored[line, c]]
        expected.append(next((place + 1 for place, c in enumerate(order) if relevant[line, c]), 0))
    assert rank_of_first_relevant(scores, relevant, ignored).tolist() == expected
    assert 0 in expected


def test_a_collapsed_encoder_is_ranked_last_not_first():
    relevant = np.array([[True, False, False, False]])
    assert rank_of_first_relevant(np.ones((1, 4), np.float32), relevant, np.zeros_like(relevant)).tolist() == [4]


def test_too_few_results_for_k_are_refused():
    with pytest.raises(ValueError, match="at k = 10"):
        hit_at_k(np.zeros((3, 5), dtype=bool), 10)
