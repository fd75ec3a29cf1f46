"""Grouped centres: the nearest centre as a plain product finds it, for a vector wherever it stands."""

import faiss
import numpy as np
import pytest

from index_builder import grouped_centres
from index_builder.grouped_centres import GroupedCentres, groups_of

NLIST, COUNT = 2_048, 5_000


@pytest.fixture(scope="module")
def centres(kit):
    return kit.clustered(NLIST, 1)


@pytest.fixture(scope="module")
def vectors(kit):
    return kit.clustered(COUNT, 2)


def grouped(centres):
    flat = faiss.IndexFlatIP(centres.shape[1])
    flat.add(centres)
    return GroupedCentres(flat, centres)


def test_nearly_always_the_nearest_and_else_one_nearly_as_near(centres, vectors):
    products = vectors @ centres.T
    found = grouped(centres).nearest_of(vectors)
    assert (found == products.argmax(axis=1)).mean() > 0.97
    assert (products.max(axis=1) - products[np.arange(COUNT), found]).mean() < 1e-3


def test_always_the_nearest_when_all_groups_are_looked_into(centres, vectors, monkeypatch):
    monkeypatch.setattr(grouped_centres, "LOOKED_INTO", 1)
    monkeypatch.setattr(grouped_centres, "PER_GROUP", 6)
    found = grouped(centres).nearest_of(vectors)
    np.testing.assert_array_equal(found, (vectors @ centres.T).argmax(axis=1))


def test_a_vector_comes_to_the_same_list_wherever_it_stands(centres, vectors):
    them = grouped(centres)
    together = them.nearest_of(vectors)
    order = np.random.default_rng(3).permutation(COUNT)
    np.testing.assert_array_equal(them.nearest_of(vectors[order]), together[order])
    some = np.concatenate([them.nearest_of(vectors[start : start + 77]) for start in range(0, 770, 77)])
    np.testing.assert_array_equal(some, together[:770])


def test_the_same_centres_make_the_same_groups(centres, vectors):
    np.testing.assert_array_equal(grouped(centres).nearest_of(vectors), grouped(centres.copy()).nearest_of(vectors))


def test_no_vectors_have_no_lists(centres):
    assert grouped(centres).nearest_of(centres[:0]).shape == (0,)


def test_groups_are_about_as_many_as_centres_in_each():
    assert groups_of(8_192) == (64, 16) or groups_of(8_192) == (128, 16)
    assert groups_of(65_536) == (256, 16)
    assert groups_of(131_072)[0] in (256, 512)
