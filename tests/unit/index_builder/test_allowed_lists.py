"""Which lists a filtered search probes, against a loop over all lists, and when it is worth it."""

import numpy as np
import pytest

from index_builder import scanned_centres
from index_builder.allowed_lists import MARGIN, AllowedLists
from index_builder.axes import Axes
from index_builder.list_centres import ListCentres
from index_builder.parts import inverted_lists
from index_builder.plan import plan_search
from index_builder.reader import open_index
from index_builder.recipes import load_recipe
from lookalike.contracts.row_set import RowSet

NPROBE = 1


@pytest.fixture(scope="module")
def opened(built):
    return open_index(built["ivf_pq"])


@pytest.fixture(scope="module")
def lists(opened):
    centres = ListCentres.of(opened.centres())
    return AllowedLists(inverted_lists(opened._index), centres, opened.manifest.items)


@pytest.fixture(scope="module")
def members(opened):
    """Rows of each list: a row lies in the list of the nearest centre."""
    centres = opened.centres()
    found = [set() for _ in centres]
    for row, number in enumerate((opened.vectors(np.arange(opened.manifest.items)) @ centres.T).argmax(axis=1)):
        found[number].add(row)
    return found


def masks(items):
    random = np.random.default_rng(4)
    yield from (random.random(items) < share for share in (0.9, 0.3, 0.02))
    yield np.arange(items) % 50 == 7


def test_lists_without_allowed_rows_are_passed_over_and_enough_rows_are_seen(lists, opened, members, queries):
    centres, items = opened.centres(), opened.manifest.items
    for mask in masks(items):
        allowed = set(np.flatnonzero(mask).tolist())
        probed = lists.chosen(queries, RowSet.of(mask), NPROBE)
        for query, numbers in zip(queries, probed.tolist(), strict=True):
            taken = [number for number in numbers if number >= 0]
            order = [
                number for number in np.argsort(-(centres @ query), kind="stable").tolist() if allowed & members[number]
            ]
            # Vectors are coded with 8 bits: a few lie nearer to another centre than the one that they were put to.
            assert len(set(taken) ^ set(order[: len(taken)])) <= 2
            seen = sum(len(allowed & members[number]) for number in taken)
            assert seen > 0.9 * MARGIN * NPROBE * items / len(centres) or len(taken) == len(order)


def test_more_is_seen_where_allowed_rows_lie_together_or_away(lists, opened, members, queries):
    stored = opened.vectors(np.arange(opened.manifest.items))
    near = np.argsort(-(stored @ queries[0]))
    evenly = np.random.default_rng(6).random(len(stored)) < 1 / 3

    def seen(mask):
        allowed, (numbers,) = set(np.flatnonzero(mask).tolist()), lists.chosen(queries[:1], RowSet.of(mask), 1)
        return sum(len(allowed & members[number]) for number in numbers.tolist())

    enough = MARGIN * len(stored) / len(members)
    assert 0.8 * enough < seen(evenly) < 2 * enough
    assert seen(np.isin(np.arange(len(stored)), near[:1_000])) > 1.5 * enough
    assert seen(np.isin(np.arange(len(stored)), near[-1_000:])) > 2 * enough


def test_scanned_centres_and_a_comparison_of_all_choose_alike(opened, lists, queries, monkeypatch):
    allowed = RowSet.of(np.random.default_rng(5).random(3_000) < 0.5)
    compared = lists.chosen(queries, allowed, NPROBE)
    monkeypatch.setattr(scanned_centres, "MANY_LISTS", 1)
    monkeypatch.setattr(scanned_centres, "ALL_FROM", 1e-9)
    monkeypatch.setattr(scanned_centres, "LEAST_MORE", 4)
    scanned = scanned_centres.ScannedCentres(ListCentres.of(opened.centres()), Axes())
    by_scan = AllowedLists(inverted_lists(opened._index), scanned, opened.manifest.items).chosen(
        queries, allowed, NPROBE
    )
    same = [len(set(a) & set(b)) / len(set(a)) for a, b in zip(compared.tolist(), by_scan.tolist(), strict=True)]
    assert np.mean(same) > 0.9


def test_nothing_allowed_probes_nothing(lists, queries):
    assert lists.chosen(queries, RowSet.of(np.zeros(3_000, bool)), NPROBE).shape == (len(queries), 0)


@pytest.mark.parametrize(
    ("recipe", "items", "matching", "cold", "exact"),
    [
        ("ivf_pq", 10**8, 5 * 10**7, False, False),
        ("ivf_pq", 10**8, 10**6, False, False),
        ("ivf_pq", 10**8, 10**5, False, True),  # 20 ms; the lists would all be scanned
        ("ivf_pq", 10**8, 10**5, True, False),  # 1.6 s from a cold disk, the whole scan 0.5 s
        ("ivf_pq", 10**8, 10**4, True, True),
        ("hnsw", 10**6, 5 * 10**5, False, False),
        ("hnsw", 10**6, 10**4, False, True),
        ("hnsw", 10**6, 10**6, False, False),  # no filter
        ("exact", 10**6, 5 * 10**5, False, True),
    ],
)
def test_what_costs_less_is_done(recipe, items, matching, cold, exact):
    settled = load_recipe(recipe)
    settled = settled.model_copy(update={"nlist": 65_536 if recipe == "ivf_pq" else None})
    work = {"row_work": 3_200.0} if cold else {}
    assert plan_search(settled, items, matching, 10, False, **work).exact is exact
    assert plan_search(settled, items, matching, 10, True, **work).exact
    assert plan_search(settled, items, 10, 10, False, **work).exact
