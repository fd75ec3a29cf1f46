"""Blocks of any size hold every row once, and what the keys of all rows tell is what loops over the texts find."""

import random
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from lookalike.contracts.item_keys import keys_of
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.quality import blocks, whole_table
from lookalike.quality.blocks import Source
from lookalike.quality.whole_table import coverage_blocks, read_embeddings, read_silver, repeated_keys


def stream(table, size):
    """What reads some columns of the table anew at each call, in batches of `size` rows."""
    return lambda columns: iter(table.select(columns or table.column_names).to_batches(size))


@pytest.fixture(params=[3, 10, 1_000])
def block_rows(request, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_ROWS", request.param)
    monkeypatch.setattr(whole_table, "BLOCK_ROWS", request.param)
    return request.param


@pytest.mark.parametrize("batch", [None, 1, 4, 7])
def test_blocks_hold_each_row_once_in_order_and_are_never_too_large(block_rows, batch):
    table = pa.table({"item_id": [f"i{n}" for n in range(50)], "other": range(50)})
    rows = table if batch is None else stream(table, batch)
    found = list(Source(rows, SILVER).blocks(["item_id"], lambda part: part))
    assert [row for block in found for row in block["item_id"].to_pylist()] == table["item_id"].to_pylist()
    # a batch of the stream is never cut
    assert all(block.num_rows <= max(block_rows, batch or 0) for block in found)
    assert len(found) <= 2 * -(-50 // block_rows)


@pytest.mark.parametrize("rows", [lambda columns: iter(()), pa.table({"item_id": pa.array([], pa.string())})])
def test_no_rows_are_one_empty_block_of_the_right_columns(rows):
    source = Source(rows, SILVER)
    assert [block.num_rows for block in source.blocks(["item_id"], lambda part: part)] == [0]
    assert "item_id" in source.schema().names
    assert len(read_silver(source).items) == 0


def catalogue(seed, n=60):
    """Rows with repeats, gaps and nulls: silver as a list of dicts, embeddings alike."""
    rng = random.Random(seed)
    names = [f"item {number}" for number in range(n)]
    silver = [
        {
            "item_id": rng.choice([None, *names]) if rng.random() < 0.1 else name,
            "content_hash": None if rng.random() < 0.1 else f"picture of {name}",
            "source": rng.choice(["icons", "shop", None]), "deleted": rng.choice([False, False, None, True]),
        }
        for name in names
    ]  # fmt: skip
    for row in silver:
        row["licence"] = "MIT" if rng.random() < {"icons": 0.9, "shop": 0.1, None: 0.8}[row["source"]] else None
    vectors = [
        {
            "item_id": name, "space": rng.choice(["s", "s", "t"]),
            "content_hash": rng.choice([None, f"picture of {name}", f"picture of {name}", "another"]),
        }
        for name in rng.choices(names, k=n)
    ]  # fmt: skip
    return silver, vectors


def tables_of(silver, vectors):
    columns = ("item_id", "content_hash", "source", "licence")
    schema = pa.schema([*((name, pa.string()) for name in columns), ("deleted", pa.bool_())])
    texts = pa.schema([(name, pa.string()) for name in ("item_id", "space", "content_hash")])
    return pa.Table.from_pylist(silver, schema), pa.Table.from_pylist(vectors, texts)


@pytest.mark.parametrize("seed", range(5))
def test_repeats_licences_and_coverage_are_those_of_loops_over_the_rows(block_rows, seed):
    silver, vectors = catalogue(seed)
    rows, embeddings = tables_of(silver, vectors)
    whole = read_silver(Source(stream(rows, 7), SILVER))
    live = [row for row in silver if not row["deleted"]]
    counts = Counter(row["item_id"] for row in live if row["item_id"] is not None)
    assert whole.repeated.tolist() == sorted(keys_of(pa.array([i for i, n in counts.items() if n > 1])).tolist())
    assert set(whole.licensing.to_pylist()) == {
        source
        for source in {row["source"] for row in live}
        if np.mean([row["licence"] is not None for row in live if row["source"] == source]) > 0.5
    }
    found = read_embeddings(Source(stream(embeddings, 7), EMBEDDINGS), whole, "s")
    pairs = Counter(f"{row['item_id']} in space {row['space']}" for row in vectors)
    twice = [text for text, n in pairs.items() if n > 1]
    assert (found.rows, found.repeated.tolist()) == (len(vectors), sorted(keys_of(pa.array(twice)).tolist()))
    facts = [fact for block in coverage_blocks(whole, found) for fact in block.to_pylist()]
    own = [row for row in vectors if row["space"] == "s"]
    known = {(row["item_id"], row["content_hash"]) for row in own if row["content_hash"] is not None}
    first = {}
    for row in live:
        first.setdefault(row["item_id"], row)
    unique = [row for item, row in first.items() if counts[item] == 1]
    place = {key: at for at, key in enumerate(whole.items.tolist())}
    for row in unique:
        fact = facts[place[keys_of(pa.array([row["item_id"]])).tolist()[0]]]
        assert fact["has_vector"] == (row["item_id"] in {each["item_id"] for each in own})
        assert fact["vector_is_current"] == ((row["item_id"], row["content_hash"]) in known)
    assert len(facts) == len(live)


def test_two_texts_of_one_key_are_not_a_repeat(monkeypatch):
    texts = pa.array(["a", "b", "c", "c", None, None])
    chance = np.array([5, 5, 9, 9, 0, 0], np.uint64)
    monkeypatch.setattr(whole_table, "keys_of", lambda column: np.array(
        [{"a": 5, "b": 5, "c": 9, None: 0}[text] for text in column.to_pylist()], np.uint64
    ))  # fmt: skip
    assert repeated_keys(np.sort(chance), [texts]).tolist() == [9]
    assert repeated_keys(np.sort(chance), [texts[:3], texts[3:]]).tolist() == [9]
    monkeypatch.setattr(whole_table, "_CONFIRMED", 1)
    assert repeated_keys(np.sort(chance), [texts]).tolist() == [9]
    monkeypatch.setattr(whole_table, "_CONFIRMED", 0)
    assert repeated_keys(np.sort(chance), [texts]).tolist() == [5, 9]


def test_texts_are_not_read_when_no_key_is_met_twice():
    def never():
        raise AssertionError("read")
        yield

    assert len(repeated_keys(np.array([0, 0, 3, 4], np.uint64), never())) == 0
