"""Searching given lists: as one query at a time finds it, whatever number of lists the queries beside it have."""

import numpy as np
import pytest

from index_builder.list_codes import add_codes, empty_codes, packed
from index_builder.search_parameters import search_lists

NLIST, ROWS, K = 64, 6_000, 10


@pytest.fixture(scope="module")
def vectors(kit):
    return kit.clustered(ROWS, 1)


@pytest.fixture(scope="module")
def plain(kit, vectors):
    """Rows in the lists of their nearest centres, which are some of them."""
    centres = vectors[:NLIST]
    lists = (vectors @ centres.T).argmax(axis=1)
    index = empty_codes(centres, vectors, lists)
    add_codes(index, vectors, lists)
    return index


def test_what_is_found_is_near_by_the_decoded_codes(kit, plain, vectors):
    """By a loop over all rows of the lists, decoded by faiss's plain index."""
    queries, centres = kit.clustered(20, 5), vectors[:NLIST]
    near = np.argsort(-(queries @ centres.T), axis=1)[:, :6]
    scores, rows = search_lists(packed(plain), queries, K, near, None)
    plain.make_direct_map()
    decoded = plain.reconstruct_n(0, ROWS)
    own = (vectors @ centres.T).argmax(axis=1)
    for query, lists, found, score in zip(queries, near, rows, scores, strict=True):
        products = np.where(np.isin(own, lists), decoded @ query, -np.inf)
        assert products[found].min() >= np.sort(products)[-K] - 0.03
        np.testing.assert_allclose(score, products[found], atol=0.03)


@pytest.mark.parametrize("queries_at_once", [2, 7, 40])
def test_queries_with_fewer_lists_change_nothing_for_others(kit, plain, vectors, queries_at_once):
    index, queries = packed(plain), kit.clustered(queries_at_once, 6)
    random = np.random.default_rng(3)
    near = np.argsort(-(queries @ vectors[:NLIST].T), axis=1)[:, :12]
    counts = random.integers(1, 13, queries_at_once)
    given = np.where(np.arange(12) < counts[:, None], near, -1)
    together = search_lists(index, queries, K, given, None)
    for at, count in enumerate(counts.tolist()):
        alone = search_lists(index, queries[at : at + 1], K, near[at : at + 1, :count], None)
        same = len(set(alone[1][0].tolist()) & set(together[1][at].tolist()))
        assert same >= K - 1, (at, count)
        np.testing.assert_allclose(together[0][at], alone[0][0], atol=0.02)


def test_a_query_without_lists_finds_nothing(kit, plain):
    queries = kit.clustered(3, 6)
    lists = np.array([[0, 1], [-1, -1], [2, -1]])
    rows = search_lists(packed(plain), queries, K, lists, None)[1]
    assert (rows[1] == -1).all() and (rows[0] >= 0).all() and (rows[2] >= 0).all()
    assert search_lists(packed(plain), queries, K, lists[:, :0], None)[1].shape == (3, K)
