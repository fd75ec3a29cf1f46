"""Facts of rows against loops, and the values that a suite would silently skip (NaN, null, empty)."""

import math

import numpy as np
import pyarrow as pa
import pytest

from lookalike.contracts.item_keys import keys_of
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.quality.facts import embedding_facts, live_rows, schema_facts, silver_facts, vector_lengths_and_norms

FLOATS = pa.list_(pa.float32())
NO_KEYS = keys_of(pa.array([], pa.string()))
NO_SOURCES = pa.array([], pa.string())


def test_lengths_and_norms_equal_a_loop_over_ragged_lists_and_chunks():
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=size).astype(np.float32).tolist() for size in rng.integers(1, 9, size=50)]
    column = pa.chunked_array([pa.array(rows[:20], FLOATS), pa.array(rows, FLOATS).slice(20)])
    lengths, norms = vector_lengths_and_norms(column)
    assert lengths.tolist() == [len(row) for row in rows]
    assert norms.tolist() == pytest.approx([math.sqrt(sum(x * x for x in row)) for row in rows])


@pytest.mark.parametrize("bad", [None, [], [1.0, math.nan], [math.inf, 0.0], [None, 1.0]])
def test_a_vector_that_is_not_finite_has_no_norm_and_spoils_no_neighbour(bad):
    column = pa.chunked_array([pa.array([[0.6, 0.8], bad, [0.0, 2.0]], FLOATS)])
    _, norms = vector_lengths_and_norms(column)
    assert norms[[0, 2]].tolist() == pytest.approx([1.0, 2.0])
    assert math.isnan(norms[1])


def embeddings(vectors, norms, **columns):
    n = len(vectors)
    given = {
        "item_id": [f"i{row}" for row in range(n)],
        "space": ["a" * 16] * n,
        "content_hash": [f"h{row}" for row in range(n)],
        "encoder_version": ["1"] * n,
        "vector": pa.array(vectors, FLOATS),
        "l2_norm": pa.array(norms, pa.float32()),
    }
    return pa.table(given | columns)


def test_a_lying_norm_a_wrong_dim_and_nan_are_told_apart():
    rows = embeddings([[1, 0], [1.5, 0], [1, 0, 0], [math.nan, 1], [1, 0]], [1.0, 1.0, 1.0, 1.0, None])
    facts = embedding_facts(rows, 2, NO_KEYS)
    assert facts["dim_fits"].to_pylist() == [True, True, False, True, True]
    assert facts["finite"].to_pylist() == [True, True, True, False, True]
    assert facts["norm_told_truly"].to_pylist() == [True, False, True, False, False]
    assert facts["norm"].to_pylist() == [1.0, 1.5, 1.0, None, 1.0]


def test_prices_that_a_suite_would_skip_are_judged():
    prices = pa.array([1.0, None, -1.0, math.nan, math.inf], pa.float64())
    facts = silver_facts(pa.table({"item_id": list("abcde"), "price": prices}), NO_KEYS, NO_SOURCES)
    assert facts["price_fits"].to_pylist() == [True, True, False, False, False]


def test_a_licence_is_demanded_where_the_source_states_them():
    rows = pa.table({"source": ["icons"] * 3 + ["shop"] * 2, "licence": ["MIT", None, "MIT", None, None]})
    facts = silver_facts(rows, NO_KEYS, pa.array(["icons"]))
    assert facts["licence_fits"].to_pylist() == [True, False, True, True, True]


def test_ids_given_twice_are_named_and_the_others_left_empty():
    facts = silver_facts(pa.table({"item_id": ["a", "b", None, "a"]}), keys_of(pa.array(["a"])), NO_SOURCES)
    assert facts["given_twice"].to_pylist() == ["a", None, None, "a"]
    rows = embeddings([[1, 0], [0, 1]], [1, 1], item_id=["a", "a"], space=["s", "t"])
    facts = embedding_facts(rows, 2, keys_of(pa.array(["a in space t"])))
    assert facts["given_twice"].to_pylist() == [None, "a in space t"]


def test_deleted_rows_are_left_out():
    assert live_rows(pa.table({"item_id": ["a", "b"], "deleted": [True, False]}))["item_id"].to_pylist() == ["b"]


def test_schema_facts_name_missing_and_wrong_columns():
    fields = [field for field in SILVER.schema if field.name != "title"]
    schema = pa.schema(fields).set(1, pa.field("version", pa.string()))
    rows = {row["column"]: row for row in schema_facts(schema, SILVER).to_pylist()}
    wrong = {name for name, row in rows.items() if row["expected"] != row["found"]}
    assert wrong == {"title", "version"}
    assert rows["title"]["found"] == "missing"


def test_readers_that_differ_only_in_string_or_list_flavour_fit_the_schema():
    flavoured = EMBEDDINGS.schema.set(0, pa.field("item_id", pa.large_string()))
    flavoured = flavoured.set(5, pa.field("vector", pa.large_list(pa.field("element", pa.float32()))))
    assert all(row["expected"] == row["found"] for row in schema_facts(flavoured, EMBEDDINGS).to_pylist())
