import numpy as np

from index_builder import truth
from index_builder.truth import exact_top_k


def naive(vectors, queries, k):
    """Loops only; equal scores by row."""
    answers = []
    for query in queries:
        scored = []
        for row, vector in enumerate(vectors):
            scored.append((-sum(float(a) * float(b) for a, b in zip(query, vector, strict=True)), row))
        answers.append([row for _, row in sorted(scored)[:k]])
    return np.array(answers)


def test_against_a_naive_loop_over_several_blocks(monkeypatch):
    monkeypatch.setattr(truth, "BLOCK_ROWS", 17)
    monkeypatch.setattr(truth, "BLOCK_QUERIES", 3)
    random = np.random.default_rng(0)
    vectors = random.normal(size=(101, 8)).astype(np.float32)
    queries = random.normal(size=(7, 8)).astype(np.float32)
    scores, rows = exact_top_k(vectors, queries, 10)
    np.testing.assert_array_equal(rows, naive(vectors, queries, 10))
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ vectors.T, rows, axis=1), rtol=1e-5)


def test_equal_scores_come_in_the_order_of_rows(monkeypatch):
    monkeypatch.setattr(truth, "BLOCK_ROWS", 4)
    vectors = np.tile(np.eye(2, dtype=np.float32), (6, 1))
    _, rows = exact_top_k(vectors, np.array([[0.0, 1.0]], np.float32), 4)
    assert rows.tolist() == [[1, 3, 5, 7]]


def test_asking_for_more_than_there_is():
    vectors = np.eye(3, dtype=np.float32)
    scores, rows = exact_top_k(vectors, vectors[:1], 5)
    assert rows.tolist() == [[0, 1, 2, -1, -1]]
    assert np.isneginf(scores[0, 3:]).all()
