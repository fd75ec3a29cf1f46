"""Fresh vectors against a full sort in float64, with blocks that round coarsely and with some that mislead."""

import numpy as np
import pytest

from lookalike.search.fresh_vectors import FreshVectors
from tests.unit.search.conftest import CoarseBlock

DIM = 16


def unit(seed, count):
    vectors = np.random.default_rng(seed).normal(size=(count, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def grown(vectors, step, make=CoarseBlock):
    """As the overlay does it: a few more at a time."""
    fresh = FreshVectors(vectors[:0])
    for end in range(step, len(vectors) + 1, step):
        fresh = FreshVectors(vectors[:end], fresh.blocks).with_blocks(make)
    return fresh


def best(vectors, query, k, allowed):
    dots = np.where(allowed, vectors.astype(np.float64) @ query.astype(np.float64), -np.inf)
    return set(np.argsort(-dots, kind="stable")[: min(k, int(allowed.sum()))].tolist())


class Doubtful(CoarseBlock):
    """Says of itself that every vector of it may be the best, whatever it names."""

    def __init__(self, vectors):
        super().__init__(vectors)
        self.error = 2.0


@pytest.mark.parametrize("make", [CoarseBlock, Doubtful])
@pytest.mark.parametrize("seed", range(5))
def test_the_best_are_found_whatever_is_allowed(seed, make):
    vectors = unit(seed, 500)
    fresh = grown(vectors, 20, make)
    assert 0 < fresh.coded < 500
    random = np.random.default_rng(seed)
    for share in (1.0, 0.5, 0.05, 0.0):
        allowed = random.random(500) < share
        for k, query in zip((1, 3, 30, 600), unit(seed + 100, 4), strict=True):
            assert set(fresh.nearest(query, k, allowed).tolist()) >= best(vectors, query, k, allowed)
            assert allowed[fresh.nearest(query, k, allowed)].all()


def test_all_of_many_equal_ones_are_found():
    vectors = unit(1, 400)
    vectors[10:390] = vectors[0]
    found = grown(vectors, 40).nearest(vectors[0], 3, np.ones(400, bool))
    assert set(found.tolist()) == {0, *range(10, 390)}


def test_equal_blocks_are_joined_so_few_stand():
    fresh = grown(unit(2, 8 * 13 + 5), 1)
    assert [len(block) for block in fresh.blocks] == [8 * 8, 8 * 4, 8]
    assert fresh.coded == 8 * 13


def test_a_view_made_before_keeps_its_blocks():
    vectors = unit(3, 200)
    before = grown(vectors[:70], 7)
    after = FreshVectors(vectors, before.blocks).with_blocks(CoarseBlock)
    assert [len(block) for block in before.blocks] == [64] and after.coded == 200
