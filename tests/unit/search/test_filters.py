import numpy as np
import pytest

from lookalike.contracts.errors import BadQuery
from lookalike.contracts.query import Filter
from lookalike.search import filters as filters_module
from lookalike.search.filters import FilterRows


def number_in(row, name):
    text = dict(row["attributes"] or []).get(name)
    return None if text is None else float(text)


CASES = [
    (Filter(field="brand", any_of=("acme",)), lambda row: row["brand"] == "acme"),
    (Filter(field="brand", any_of=("acme", "bolt")), lambda row: row["brand"] in {"acme", "bolt"}),
    (Filter(field="brand", none_of=("acme",)), lambda row: row["brand"] != "acme"),
    (Filter(field="brand", any_of=("nobody",)), lambda row: False),
    (Filter(field="licence", any_of=("CC0-1.0",)), lambda row: row["licence"] == "CC0-1.0"),
    (Filter(field="currency", any_of=("EUR",)), lambda row: True),
    (Filter(field="author", none_of=("x",)), lambda row: True),
    (Filter(field="category", any_of=("food",)), lambda row: "food" in (row["category_path"] or [])),
    (
        Filter(field="category", any_of=("food",), none_of=("drink",)),
        lambda row: "food" in (row["category_path"] or []) and "drink" not in (row["category_path"] or []),
    ),
    (Filter(field="tags", any_of=("round", "blue")), lambda row: {"round", "blue"} & set(row["tags"] or [])),
    (Filter(field="tags", none_of=("red",)), lambda row: "red" not in (row["tags"] or [])),
    (Filter(field="price", at_most=20), lambda row: row["price"] is not None and row["price"] <= 20),
    (
        Filter(field="price", at_least=10.1, at_most=20),
        lambda row: row["price"] is not None and 10.1 <= row["price"] <= 20,
    ),
    (Filter(field="stock", at_least=1), lambda row: row["stock"] is not None and row["stock"] >= 1),
    (Filter(field="stock", any_of=("3", "4.0")), lambda row: row["stock"] in {3, 4}),
    (Filter(field="stock", none_of=("3",)), lambda row: row["stock"] != 3),
    (
        Filter(field="attributes.colour", any_of=("red",)),
        lambda row: dict(row["attributes"] or []).get("colour") == "red",
    ),
    (
        Filter(field="attributes.colour", none_of=("red",)),
        lambda row: dict(row["attributes"] or []).get("colour") != "red",
    ),
    (
        Filter(field="attributes.weight", at_least=100, at_most=200.5),
        lambda row: number_in(row, "weight") is not None and 100 <= number_in(row, "weight") <= 200.5,
    ),
]


@pytest.mark.parametrize(("each", "passes"), CASES, ids=lambda case: getattr(case, "field", ""))
def test_against_a_loop_over_rows(columns, rows, each, passes):
    passed = FilterRows(columns).rows([each])
    assert passed.items == len(rows)
    assert passed.rows().tolist() == [number for number, row in enumerate(rows) if passes(row)]


def test_filters_are_joined_by_and(columns, rows):
    filters = FilterRows(columns)
    joined = filters.rows([CASES[0][0], CASES[7][0], CASES[11][0]])
    asked = [passes for _, passes in (CASES[0], CASES[7], CASES[11])]
    expected = [number for number, row in enumerate(rows) if all(passes(row) for passes in asked)]
    assert joined.rows().tolist() == expected != []
    assert filters.rows([]) is None


@pytest.mark.parametrize(
    ("each", "message"),
    [
        (Filter(field="colour", any_of=("x",)), r"'colour'.*Allowed: brand.*category.*price.*attributes\.colour"),
        (Filter(field="attributes.size", any_of=("x",)), r"'attributes\.size'.*Allowed.*attributes\.weight"),
        (Filter(field="image_path", any_of=("x",)), "no such field"),
        (Filter(field="brand", at_most=3), "brand: at_least and at_most need numbers.*price, stock"),
        (Filter(field="tags", at_least=3), "tags: at_least"),
        (Filter(field="price", any_of=("cheap",)), "price: any_of and none_of take numbers here; got cheap"),
        (Filter(field="attributes.colour", at_most=3), "colour: none of its values is a number"),
    ],
)
def test_what_is_not_allowed_says_what_is(columns, each, message):
    with pytest.raises(BadQuery, match=message):
        FilterRows(columns).rows([each])


def test_sets_are_kept_and_bounded(columns, monkeypatch):
    filters = FilterRows(columns)
    each = Filter(field="price", at_most=20)
    first = filters.rows([each])
    assert filters.rows([each]) is first
    with pytest.raises(ValueError, match="read-only"):
        first.bits[0] = 1
    monkeypatch.setattr(filters_module, "CACHE_BYTES", 3 * first.bits.nbytes)
    for bound in range(10):
        filters.rows([Filter(field="price", at_most=bound)])
    again = filters.rows([each])
    assert again is not first
    np.testing.assert_array_equal(again.bits, first.bits)
