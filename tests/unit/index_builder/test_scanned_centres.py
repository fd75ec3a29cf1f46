"""Scanned centres: the nearest lists as a plain product orders them, most of them found by their codes."""

import numpy as np
import pytest

from index_builder import scanned_centres
from index_builder.axes import AxesFit
from index_builder.list_centres import ListCentres
from index_builder.scanned_centres import ScannedCentres

NLIST, NEAREST = 4_096, 64


@pytest.fixture(scope="module")
def centres(kit):
    return kit.clustered(NLIST, 1)


@pytest.fixture(scope="module")
def queries(kit):
    return kit.clustered(100, 2)


@pytest.fixture
def scanned(centres, monkeypatch):
    monkeypatch.setattr(scanned_centres, "MANY_LISTS", 1)
    return ScannedCentres(ListCentres.of(centres), AxesFit(centres).cut(24))


def test_nearly_all_of_the_nearest_are_found_and_ordered(scanned, centres, queries):
    found = scanned.nearest(queries, NEAREST)
    products = queries @ centres.T
    true = np.argsort(-products, axis=1)[:, :NEAREST]
    assert found.shape == true.shape
    assert np.mean([np.isin(a, b).mean() for a, b in zip(true, found, strict=True)]) > 0.95
    here = np.take_along_axis(products, found, axis=1)
    assert (np.diff(here, axis=1) <= 1e-6).all()
    assert all(len(set(row)) == NEAREST for row in found.tolist())


def test_codes_alone_would_find_fewer(scanned, centres, queries, monkeypatch):
    true = np.argsort(-(queries @ centres.T), axis=1)[:, :NEAREST]
    compared = scanned.nearest(queries, NEAREST)
    monkeypatch.setattr(scanned_centres, "MORE", 1.0)
    monkeypatch.setattr(scanned_centres, "LEAST_MORE", 0)
    by_codes = scanned.nearest(queries, NEAREST)
    shares = [np.mean([np.isin(a, b).mean() for a, b in zip(true, each, strict=True)]) for each in (by_codes, compared)]
    assert shares[0] < shares[1]


def test_all_are_compared_where_many_are_wanted_or_there_are_few(scanned, centres, queries):
    true = np.argsort(-(queries @ centres.T), axis=1, kind="stable")
    np.testing.assert_array_equal(scanned.nearest(queries, NLIST // 8)[:, 0], true[:, 0])
    assert (np.sort(scanned.nearest(queries, NLIST), axis=1) == np.arange(NLIST)).all()
    assert scanned.nearest(queries, 2 * NLIST).shape == (100, NLIST)
    few = ScannedCentres(ListCentres.of(centres[:100]), AxesFit(centres).cut(24))
    np.testing.assert_array_equal(few.nearest(queries, 5)[:, 0], (queries @ centres[:100].T).argmax(axis=1))


@pytest.mark.parametrize("codes", [True, False])
def test_lists_beyond_the_margin_are_left_out_but_the_first_few(centres, queries, monkeypatch, codes):
    monkeypatch.setattr(scanned_centres, "MANY_LISTS", 1 if codes else 10**6)
    scanned = ScannedCentres(ListCentres.of(centres), AxesFit(centres).cut(24))
    products = queries @ centres.T
    for margin, least in ((0.05, 1), (0.2, 3), (0.2, 20), (2.0, 1)):
        found = scanned.near_enough(queries, NEAREST, margin, least)
        every = scanned.nearest(queries, NEAREST)
        assert found.shape[1] <= NEAREST
        for row, those, of_all in zip(products, found.tolist(), every.tolist(), strict=True):
            near = [at for place, at in enumerate(of_all) if place < least or row[at] >= row.max() - margin - 1e-6]
            assert [at for at in those if at >= 0] == near and set(those[len(near) :]) <= {-1}
