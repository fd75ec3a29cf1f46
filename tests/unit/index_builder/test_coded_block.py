"""Coded blocks against float64 products: the bound holds, joining loses nothing."""

import numpy as np
import pytest

from index_builder.coded_block import CodedBlock

DIM = 256


def unit(random, count):
    vectors = random.normal(size=(count, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def random():
    return np.random.default_rng(3)


def true_scores(vectors, query):
    return vectors.astype(np.float64) @ query.astype(np.float64)


def test_no_score_is_further_from_the_truth_than_the_bound(random):
    vectors, queries = unit(random, 500), unit(random, 20)
    vectors[7] = np.eye(DIM, dtype=np.float32)[3]
    block = CodedBlock.of(vectors)
    for query in [*queries, vectors[7]]:
        scores, positions = block.nearest(query, 500, np.ones(500, bool))
        assert sorted(positions) == list(range(500))
        assert np.all(np.diff(scores) <= 0)
        assert np.abs(scores - true_scores(vectors, query)[positions]).max() <= block.error


def test_the_bound_is_narrow_enough_to_be_of_use(random):
    assert CodedBlock.of(unit(random, 500)).error < 0.001


def test_only_what_is_allowed_is_named(random):
    vectors, query = unit(random, 300), unit(random, 1)[0]
    allowed = np.zeros(300, bool)
    allowed[[5, 50, 299]] = True
    scores, positions = CodedBlock.of(vectors).nearest(query, 10, allowed)
    assert sorted(positions) == [5, 50, 299] and len(scores) == 3
    assert len(CodedBlock.of(vectors).nearest(query, 10, np.zeros(300, bool))[1]) == 0


def test_joined_blocks_answer_as_one(random):
    vectors, query = unit(random, 256), unit(random, 1)[0]
    vectors[200] = np.eye(DIM, dtype=np.float32)[0]
    joined = CodedBlock.of(vectors[:100]).joined(CodedBlock.of(vectors[100:]))
    whole = CodedBlock.of(vectors)
    assert len(joined) == 256 and joined.bytes == 2 * 256 * DIM and joined.error == whole.error
    for got, wanted in zip(
        joined.nearest(query, 30, np.ones(256, bool)), whole.nearest(query, 30, np.ones(256, bool)), strict=True
    ):
        np.testing.assert_array_equal(got, wanted)
