"""The row functions of fold and recorded changes without a JVM: which vectors go on, and the stream's order."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from lookalike.contracts.change import partition_of
from lookalike.contracts.item_state import STATE_COLUMNS, ItemState, state_of_row, unknown_item
from lookalike.contracts.settings import load_settings
from lookalike.contracts.tables import CHANGES, FOLDS
from lookalike.storage.delta import DeltaTables
from spark.change_rows import Replay, settle_item
from spark.fold import new_offsets, pending
from spark.fold_rows import fold_rows

AT = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = dict.fromkeys(STATE_COLUMNS) | {
    "title": "t", "image_path": "p.png", "content_hash": "a" * 64, "width": 1, "height": 1, "source": "shop",
    "category_path": [], "tags": [], "synthetic": [], "attributes": {}, "keywords": {},
}  # fmt: skip
UNIT = [0.6, 0.8]


def folded(*messages):
    given = [{"partition": n, "offset": 0, "state": state.to_json(), "vectors": vectors}
             for n, (state, vectors) in enumerate(messages)]  # fmt: skip
    batch = pa.RecordBatch.from_pylist([{"messages": given}])
    (out,) = fold_rows(4, [batch])
    return out.to_pylist()[0]


@pytest.mark.parametrize(
    ("vector", "good"),
    [(UNIT, True), ([0.6, 0.81], False), ([float("nan"), 1.0], False), ([float("inf"), 0.0], False), ([], False),
     (None, False), ([0.0, 0.0], False)],
)  # fmt: skip
def test_only_finite_vectors_of_unit_length_are_folded(vector, good):
    row = folded((ItemState("i", 5, COLUMNS), [{"space": "s" * 16, "vector": vector}]))
    assert (len(row["vectors"]), row["bad_vectors"]) == ((1, 0) if good else (0, 1))
    if good:
        assert row["vectors"][0]["l2_norm"] == pytest.approx(np.linalg.norm(UNIT))


def test_states_of_several_partitions_are_joined_and_only_vectors_of_the_picture_that_won_stay():
    older = ItemState("i", 5, COLUMNS).set_columns(9, {"price": 2.0}, AT)[0]
    newer = ItemState("i", 6, COLUMNS | {"content_hash": "b" * 64, "title": "new"}, {}, False, AT)
    messages = [(older, [{"space": "s", "vector": [1.0, 0.0]}]), (newer, [{"space": "s", "vector": UNIT}])]
    for given in (messages, messages[::-1]):
        row = folded(*given)
        assert state_of_row(row) == older.merge(newer)
        assert (row["title"], row["price"], row["version"]) == ("new", 2.0, 9)
        np.testing.assert_allclose(row["vectors"][0]["vector"], UNIT, rtol=1e-6)


def test_the_tombstone_of_an_unknown_item_is_a_row_without_columns():
    row = folded((unknown_item("i").set_deleted(7, True, AT)[0], []))
    assert (row["title"], row["deleted"], row["version"], row["base_version"]) == (None, True, 7, -1)


def test_what_waits_is_what_lies_above_the_last_fold_of_its_partition(tmp_path):
    settings = load_settings(home=tmp_path)
    tables = DeltaTables(settings.tables_root)
    assert (pending(settings), new_offsets(tables)) == (0, {})
    state = ItemState("i", 5, COLUMNS)
    places = [(0, 3), (0, 4), (0, 9), (1, 0), (2, 5)]
    rows = [
        {"partition": partition, "offset": offset, "origin_offset": offset, "item_id": "i", "version": 5,
         "kind": "upsert", "event_time": AT, "published_at": AT, "state": state.to_json(), "vectors": []}
        for partition, offset in places
    ]  # fmt: skip
    tables.append(CHANGES, pa.Table.from_pylist(rows, schema=CHANGES.schema))
    assert (pending(settings), new_offsets(tables)) == (5, {0: (0, 10), 1: (0, 1), 2: (0, 6)})
    folds = [
        {"at": AT + timedelta(days=night), "partition": partition, "next_offset": end, "silver_version": 1,
         "embeddings_version": 1}
        for night, (partition, end) in enumerate([(0, 4), (0, 5), (2, 6)])
    ]  # fmt: skip
    tables.append(FOLDS, pa.Table.from_pylist(folds, schema=FOLDS.schema))
    assert (pending(settings), new_offsets(tables)) == (2, {0: (5, 10), 1: (0, 1)})


@pytest.fixture
def replay(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "p.png")
    return Replay(str(tmp_path), 1, 4, 1, load_settings().intake)


def record(offset: int, kind: str, version: int, **body):
    change = {"schema": 1, "kind": kind, "item_id": "i", "version": version, "event_time": AT.isoformat(),
              "source": "till", **body}  # fmt: skip
    ms = int(AT.timestamp() * 1000)
    return {"partition": partition_of(b"i", 1), "offset": offset, "appended_ms": ms, "value": json.dumps(change)}


def price(offset: int, version: int, value: float):
    return record(offset, "attributes", version, columns={"price": value})


def upsert(offset: int, version: int, picture: str = "p.png"):
    return record(offset, "upsert", version, product={"title": "t", "image_path": picture})


def reasons(item):
    return {record["offset"]: refusal.reason.value for record, _, refusal in item.refused}


def test_changes_are_applied_in_the_order_of_the_log_whatever_order_they_come_in(replay):
    silver = ItemState("i", 5, COLUMNS)
    records = [price(0, 7, 1.0), price(1, 6, 2.0), price(2, 7, 3.0), price(3, 8, 4.0)]
    for given in (records, records[::-1]):
        item = settle_item(replay, "i", given, silver)
        assert reasons(item) == {1: "version_behind"}
        assert (item.counted["taken"], item.counted["repeated"]) == (2, 1)
        assert (item.state.columns["price"], item.state.column_versions) == (4.0, {"price": 8})


def test_a_change_waits_for_its_item_and_is_refused_when_none_comes(replay):
    item = settle_item(replay, "i", [price(0, 6, 1.0), upsert(1, 5), price(2, 7, 2.0), price(3, 6, 3.0)], None)
    assert (reasons(item), item.counted["overtaken"]) == ({3: "version_behind"}, 1)
    assert (item.state.base_version, item.state.columns["price"]) == (5, 2.0)
    item = settle_item(replay, "i", [price(0, 6, 1.0), record(1, "delete", 7), record(2, "restore", 8)], None)
    assert reasons(item) == {0: "unknown_item", 2: "unknown_item"}
    assert item.state.deleted and not item.state.described


def test_an_item_that_silver_shows_as_deleted_is_unknown_until_a_change_has_waited_for_it(replay):
    silver = ItemState("i", 9, COLUMNS, {}, True)
    assert settle_item(replay, "i", [upsert(0, 8)], silver).state.base_version == 8  # the MERGE knows better
    item = settle_item(replay, "i", [record(0, "restore", 10), price(1, 8, 1.0)], silver)
    assert (item.state.deleted, item.counted["taken"], item.counted["overtaken"]) == (False, 1, 1)


def test_a_picture_is_read_for_news_only(replay):
    item = settle_item(replay, "i", [upsert(0, 5, "nowhere.png"), upsert(1, 6, "nowhere.png"), upsert(2, 7)],
                       ItemState("i", 5, COLUMNS))  # fmt: skip
    assert (reasons(item), item.counted["repeated"]) == ({1: "picture_missing"}, 1)
    assert (item.state.base_version, item.state.columns["width"]) == (7, 4)
