"""Filters are chosen by how often their values occur, and what they let pass is what a loop finds."""

import numpy as np
import pyarrow as pa
import pytest

from lookalike.contracts.item_keys import ItemKeys, keys_of
from lookalike.contracts.query import Filter
from lookalike.contracts.row_set import RowSet
from lookalike.evaluation import filter_cases
from lookalike.evaluation.filter_cases import attribute_cases, choose_filters, random_cases

SHARES = (0.5, 0.1, 0.01, 0.001)
ITEMS = 800


@pytest.fixture
def rows():
    rng = np.random.default_rng(5)
    return pa.table({
        "item_id": [f"item-{i}" for i in rng.permutation(ITEMS)],
        "brand": ["big" if i % 2 else None for i in range(ITEMS)],
        "category_path": [["all", "kind"] if i % 11 == 0 else ["all"] for i in range(ITEMS)],
        "tags": [[f"rare-{i % 3}"] if i < 21 else None if i % 5 == 0 else [] for i in range(ITEMS)],
        "licence": pa.array(["MIT"] * ITEMS),
        "price": [float(i % 100) if i % 4 else None for i in range(ITEMS)],
    })  # fmt: skip


@pytest.fixture
def items(rows):
    return ItemKeys(np.sort(keys_of(rows["item_id"])))


def test_the_value_nearest_to_each_share_is_chosen_and_none_where_nothing_is_near(rows):
    chosen = choose_filters(rows.to_batches(37), ITEMS, SHARES, seed=1)
    assert chosen == {
        0.5: Filter(field="brand", any_of=("big",)),
        0.1: Filter(field="category", any_of=("kind",)),
        0.01: Filter(field="tags", any_of=("rare-0",)),
    }


def test_prices_stand_in_where_no_value_is_near(rows):
    rows = rows.set_column(3, "tags", pa.nulls(ITEMS, rows["tags"].type))
    assert choose_filters(rows.to_batches(), ITEMS, SHARES, seed=1)[0.01] == Filter(field="price", at_most=1.0)


def test_a_sample_of_a_large_catalogue_chooses_alike(rows, monkeypatch):
    monkeypatch.setattr(filter_cases, "LOOKED_AT", 400)
    chosen = choose_filters(rows.to_batches(), ITEMS, (0.5, 0.1), seed=1)
    assert [each.field for each in chosen.values()] == ["brand", "category"]


def test_an_attribute_lets_pass_what_a_loop_finds_among_the_current_items(rows, items):
    keys = keys_of(rows["item_id"])
    current = np.zeros(ITEMS, dtype=bool)
    current[items.find(keys[:600])] = True
    filters = {0.1: Filter(field="category", any_of=("kind",)), 0.01: Filter(field="price", at_most=1.0)}
    cases = attribute_cases(filters, rows.to_batches(37), items, RowSet.of(current))
    passing = [{i for i in range(600) if i % 11 == 0}, {i for i in range(600) if i % 4 and i % 100 <= 1}]
    assert [(case.share, case.name) for case in cases] == [(0.1, "category kind"), (0.01, "price up to 1")]
    for case, expected in zip(cases, passing, strict=True):
        assert set(case.allowed.rows().tolist()) == set(items.find(keys[sorted(expected)]).tolist())


def test_random_rows_are_as_many_as_the_share_says_and_all_current(items):
    current = RowSet.of(np.arange(ITEMS) % 4 != 0)
    cases = list(random_cases(items, current, SHARES, seed=1))
    assert [(case.share, case.allowed.count) for case in cases] == [(0.5, 300), (0.1, 60), (0.01, 6)]
    assert all(current.has(case.allowed.rows()).all() for case in cases)
    again, other = (next(random_cases(items, current, SHARES, seed=seed)).allowed.rows() for seed in (1, 2))
    assert again.tolist() == cases[0].allowed.rows().tolist() != other.tolist()
