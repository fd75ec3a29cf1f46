"""What is measured on a candidate: healthy, shuffled, shrunk; against live on the same questions."""

import numpy as np
import pytest

from lookalike.evaluation.candidate import Questions, measure_candidate
from lookalike.evaluation.label import Labels, ask, draw_items, label_values, overlap
from lookalike.evaluation.truth import Reference


@pytest.fixture
def labels(small_catalogue):
    return Labels.from_silver(small_catalogue.silver.to_batches(50))


@pytest.fixture
def measured(small_catalogue, labels):
    c = small_catalogue
    reference = Reference.held(c.item_ids, c.vectors, block=37)
    drawn = draw_items(c.item_ids, 100, seed=7)
    rows = [c.item_ids.index(item) for item in drawn]
    texts = c.vectors[rows] + 0.1 * np.random.default_rng(1).normal(size=(100, 24)).astype(np.float32)
    questions = Questions(drawn, c.vectors[rows], texts)

    def measure(index, live=None):
        return measure_candidate(
            index, reference, questions, questions, labels, seed=7, live=live, live_questions=questions
        )

    return measure


def test_a_healthy_candidate_equals_live(small_catalogue, measured):
    found = measured(small_catalogue.index(), live=small_catalogue.index())
    assert (found.items, found.missing, found.live_items, found.overlap) == (180, 0, 180, 1.0)
    assert found.recall["picture"].value == found.recall["title"].value == 1.0
    assert {name: (d.value, d.low, d.high) for name, d in found.differences.items()} == dict.fromkeys(
        ["picture R@10", "title R@10", "picture nDCG@10", "title nDCG@10"], (0.0, 0.0, 0.0)
    )


def test_without_live_nothing_is_compared(small_catalogue, measured):
    found = measured(small_catalogue.index())
    assert (found.live_items, found.differences, found.overlap) == (None, None, None)
    assert found.labels["picture R@10"].value > 0.9


def test_labels_that_exist_but_were_not_asked_are_nan_not_absent(small_catalogue, labels):
    c, nothing = small_catalogue, Questions([], np.zeros((0, 24), np.float32), np.zeros((0, 24), np.float32))
    found = measure_candidate(c.index(), Reference.held(c.item_ids, c.vectors), nothing, nothing, labels, seed=7)
    assert found.labelled == 180
    assert all(np.isnan(figure.value) for figure in found.labels.values())
    assert found.recall["picture"].n == 0


def test_shuffled_vectors_lower_every_label_metric(small_catalogue, measured):
    shuffled = small_catalogue.index(vectors=np.random.default_rng(5).permutation(small_catalogue.vectors))
    found = measured(shuffled, live=small_catalogue.index())
    assert all(difference.high < -0.2 for difference in found.differences.values())
    assert found.overlap < 0.3
    assert found.recall["picture"].value < 0.3


def test_lost_rows_lower_the_label_metrics_because_the_ideal_comes_from_silver(small_catalogue, measured):
    found = measured(small_catalogue.index(keep=range(0, 180, 3)), live=small_catalogue.index())
    assert (found.items, found.missing) == (60, 120)
    assert found.differences["picture R@10"].high < 0


def test_label_values_equal_a_naive_loop(small_catalogue, labels):
    c = small_catalogue
    asked = c.item_ids[:40]
    found = ask(c.index(), c.vectors[:40], 10, asked)
    values = label_values(asked, found, labels, itself_counts=False)
    for i, answer in enumerate(found):
        scores = c.vectors @ c.vectors[i]
        expected = [c.item_ids[j] for j in np.argsort(-scores, kind="stable") if j != i][:10]
        assert answer == expected
        assert values.hit_at_10[i] == float(any(c.groups[c.item_ids.index(item)] == c.groups[i] for item in answer))

    def grade(asked, other):
        same = [c.silver[column].to_pylist() for column in ("group_id", "category_path")]
        first, second = c.item_ids.index(asked), c.item_ids.index(other)
        return 2 if same[0][first] == same[0][second] else int(same[1][first] == same[1][second])

    # Every other exact (2) and related (15) item exists; the best list scores 1.
    best = [[*[o for o in c.item_ids if o != a and grade(a, o) == 2],
             *[o for o in c.item_ids if grade(a, o) == 1]][:10] for a in asked]  # fmt: skip
    assert label_values(asked, best, labels, itself_counts=False).ndcg_at_10.tolist() == pytest.approx([1.0] * 40)


def test_labelled_are_the_items_with_a_counterpart(small_catalogue):
    groups = [f"alone-{i}" if i < 60 else g for i, g in enumerate(small_catalogue.groups)]
    groups[60] = None
    place = small_catalogue.silver.schema.get_field_index("group_id")
    labels = Labels.from_silver(small_catalogue.silver.set_column(place, "group_id", [groups]).to_batches(50))
    labelled = labels.labelled().has(labels.places(small_catalogue.item_ids))
    assert labelled.tolist() == [i > 60 for i in range(180)]


def test_an_unknown_answer_and_a_missing_label_are_worth_nothing(small_catalogue, labels):
    c = small_catalogue
    values = label_values(c.item_ids[:1], [["stranger", c.item_ids[1]]], labels, itself_counts=False)
    assert values.hit_at_10.tolist() == [1.0]
    assert label_values(c.item_ids[:1], [["stranger"]], labels, itself_counts=False).hit_at_10.tolist() == [0.0]


def test_a_draw_is_by_seed_and_the_same_from_parts_in_any_order(small_catalogue):
    ids = small_catalogue.item_ids
    drawn = draw_items(ids, 30, seed=1)
    assert len(set(drawn)) == 30
    assert drawn == draw_items(ids[::-1], 30, seed=1) != draw_items(ids, 30, seed=2)
    assert drawn == draw_items(draw_items(ids[:70], 30, seed=1) + draw_items(ids[70:], 30, seed=1), 30, seed=1)


def test_overlap_by_hand():
    assert overlap([["a", "b", "c"], ["a"]], [["c", "a", "x"], ["b"]], k=3) == pytest.approx((2 / 3 + 0) / 2)
