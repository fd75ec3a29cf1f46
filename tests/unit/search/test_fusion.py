import math

import numpy as np
import pytest

from lookalike.contracts.errors import BadQuery
from lookalike.search.fusion import cosines, fuse


def at(degrees):
    return [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]


@pytest.mark.parametrize(
    ("angles", "weights", "expected"),
    [
        ([30], [1], 30),
        ([30], [5], 30),
        ([0, 90], [1, 1], 45),
        ([0, 90], [1, math.sqrt(3)], 60),
        ([0, 90], [1, -1], -45),
        ([30], [-1], 210),
        ([0, 60], [2, -1], -30),  # 2·(1, 0) − (½, √3/2) = (3/2, −√3/2)
    ],
)
def test_by_hand_on_the_circle(angles, weights, expected):
    fused = fuse(np.array([at(angle) for angle in angles], np.float32), weights)
    np.testing.assert_allclose(fused, at(expected), atol=1e-6)
    assert fused.dtype == np.float32


@pytest.mark.parametrize(("angles", "weights"), [([20, 20], [1, -1]), ([0, 180], [2, 2]), ([0, 120, 240], [1, 1, 1])])
def test_parts_that_cancel_out_are_refused(angles, weights):
    with pytest.raises(BadQuery, match="cancel each other out"):
        fuse(np.array([at(angle) for angle in angles], np.float32), weights)


def test_cosines_do_not_depend_on_the_batch():
    random = np.random.default_rng(0)
    found = 3 * random.normal(size=(257, 100)).astype(np.float32)
    queries = random.normal(size=(3, 100)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    whole = cosines(found, queries)
    np.testing.assert_array_equal(whole, np.concatenate([cosines(row[None], queries) for row in found]))
    np.testing.assert_allclose(whole, (found / np.linalg.norm(found, axis=1, keepdims=True)) @ queries.T, atol=2e-6)
