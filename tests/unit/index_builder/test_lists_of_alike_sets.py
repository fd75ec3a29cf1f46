"""Lists for a set that few changes made of another: it is not counted anew, and no row put in is passed over."""

import numpy as np
import pytest

from index_builder.allowed_lists import AllowedLists
from index_builder.list_centres import ListCentres
from index_builder.parts import inverted_lists
from index_builder.reader import open_index
from lookalike.contracts.row_set import RowSet


@pytest.fixture
def opened(built):
    return open_index(built["ivf_pq"])


@pytest.fixture
def lists(opened):
    return AllowedLists(inverted_lists(opened._index), ListCentres.of(opened.centres()), opened.manifest.items)


def test_a_list_that_had_no_allowed_row_is_probed_for_one_that_was_put_in(lists, opened, monkeypatch):
    items = opened.manifest.items
    place = (opened.vectors(np.arange(items)) @ opened.centres().T).argmax(axis=1)
    empty = int(place[0])
    before = RowSet.of(place != empty)
    query = opened.centres()[empty][None]
    query /= np.linalg.norm(query)
    assert empty not in lists.chosen(query, before, 1)
    counted = []
    monkeypatch.setattr(RowSet, "some", lambda self, wanted: counted.append(self) or self.rows())
    after = before.changed(np.array([0]), np.array([True]))
    assert after.like is before
    assert empty in lists.chosen(query, after, 1)
    assert counted == []
