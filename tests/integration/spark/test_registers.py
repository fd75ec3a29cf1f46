"""SILVER's MERGE against `ItemState.merge` on thousands of random pairs of states; tables from before registers."""

import random
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from lookalike.contracts.item_state import DELETED, PATCHABLE, ItemState, state_of_row, unknown_item
from lookalike.contracts.tables import SILVER
from spark import registers, tables
from spark.fold_rows import state_row

pytestmark = pytest.mark.slow

PAIRS = 3_000
SHARDS = 4
START = datetime(2026, 1, 1, tzinfo=UTC)
VALUES = {
    "title": lambda n: f"title {n}", "brand": lambda n: None if n % 3 == 0 else f"brand {n}",
    "category_path": lambda n: [f"c{n}"], "tags": lambda n: [f"t{n}"] * (n % 3), "group_id": lambda n: f"g{n}",
    "price": lambda n: None if n % 4 == 0 else n / 4, "currency": lambda n: "EUR", "stock": lambda n: n,
    "licence": lambda n: f"l{n}", "licence_url": lambda n: None, "author": lambda n: f"a{n}",
    "author_url": lambda n: None, "attributes": lambda n: {"size": str(n)} if n % 2 else {},
    "keywords": lambda n: {"de": [f"k{n}"]}, "synthetic": lambda n: [], "source": lambda n: f"shop {n % 2}",
    "image_path": lambda n: f"{n}.png", "content_hash": lambda n: f"{n:064x}", "width": lambda n: n + 1,
    "height": lambda n: n + 2,
}  # fmt: skip


def random_state(generator: random.Random, item_id: str) -> ItemState:
    """What up to six random changes leave, in any order of versions, now and then a bare tombstone."""
    state = unknown_item(item_id)
    described = generator.random() < 0.9
    for step in range(generator.randint(1, 6)):
        version, number = generator.randint(0, 9), generator.randint(0, 99)
        at = START + timedelta(seconds=generator.randint(0, 30))
        kind = generator.choice(["upsert", "columns", "columns", "deleted"]) if step else "upsert"
        if not described or kind == "deleted":
            state, _ = state.set_deleted(version, generator.random() < 0.5, at)
        elif kind == "upsert":
            columns = {name: make(number) for name, make in VALUES.items()}
            state, _ = state.upsert(version, columns, None if generator.random() < 0.4 else at)
        else:
            chosen = generator.sample(PATCHABLE, generator.randint(1, 4))
            state, _ = state.set_columns(version, {name: VALUES[name](number) for name in chosen}, at)
    return state


def table_of(states) -> pa.Table:
    return pa.Table.from_pylist([state_row(state, SHARDS) | {"snapshot_id": f"s{state.version}"} for state in states],
                                schema=pa.schema([field.with_nullable(True) for field in SILVER.schema]))  # fmt: skip


def as_rows(session, states):
    schema = tables.spark_schema(SILVER)
    for column in schema.fields:
        column.nullable = True
    return session.createDataFrame(table_of(states), schema)


def held(home) -> dict[str, ItemState]:
    return {row["item_id"]: state_of_row(row) for row in home.tables.read(SILVER).to_pylist()}


def test_the_merge_in_sql_is_the_merge_of_states(spark_session, make_home):
    home = make_home()
    generator = random.Random(11)
    pairs = {f"i{n}": (random_state(generator, f"i{n}"), random_state(generator, f"i{n}")) for n in range(PAIRS)}
    tables.ensure_tables(spark_session, home.settings)
    first = [mine for mine, _ in pairs.values() if generator.random() < 0.95]
    registers.merge_states(spark_session, home.settings, as_rows(spark_session, first))
    there = held(home)
    assert there == {state.item_id: state for state in first if state.described}
    assert len(there) < len(first), "some are bare tombstones, which have no row"

    second = as_rows(spark_session, [theirs for _, theirs in pairs.values()]).persist()
    news = {row["item_id"] for row in registers.only_news(spark_session, home.settings, second).collect()}
    expected, changed = {}, set()
    for item_id, (_, theirs) in pairs.items():
        joined = there[item_id].merge(theirs) if item_id in there else theirs
        if joined.described:
            expected[item_id] = joined
            changed |= {item_id} if joined != there.get(item_id) else set()
    assert news == changed
    assert 0.2 * PAIRS < len(changed) < 0.95 * PAIRS, "the pairs try both"
    registers.merge_states(spark_session, home.settings, second)
    after = held(home)
    assert after.keys() == expected.keys()
    assert [item for item, state in after.items() if state != expected[item]] == []
    for row in home.tables.read(SILVER, ["item_id", "version"]).to_pylist():
        assert row["version"] == expected[row["item_id"]].version
    assert registers.only_news(spark_session, home.settings, second).count() == 0
    second.unpersist()


def test_a_tie_keeps_what_is_there_and_a_row_is_named_by_where_it_was_received(spark_session, make_home):
    home = make_home()
    tables.ensure_tables(spark_session, home.settings)
    columns = {name: make(1) for name, make in VALUES.items()}
    there = ItemState("a", 5, columns).set_columns(7, {"price": 3.0}, START)[0]
    tied = ItemState("a", 5, {name: make(2) for name, make in VALUES.items()}).set_columns(7, {"price": 4.0}, START)[0]
    newer = ItemState("a", 6, {name: make(3) for name, make in VALUES.items()})
    snapshots = []
    for state in (there, tied, newer):
        registers.merge_states(spark_session, home.settings, as_rows(spark_session, [state]))
        row = home.tables.read(SILVER).to_pylist()[0]
        snapshots.append((row["snapshot_id"], row["title"], row["price"], dict(row["column_versions"])))
    assert snapshots == [("s7", "title 1", 3.0, {"price": 7}), ("s7", "title 1", 3.0, {"price": 7}),
                         ("s6", "title 3", 3.0, {"price": 7})]  # fmt: skip


def test_a_snapshot_brings_back_what_a_snapshot_withdrew_but_not_what_a_change_deleted(spark_session, make_home):
    home = make_home()
    tables.ensure_tables(spark_session, home.settings)
    columns = {name: make(1) for name, make in VALUES.items()}
    rows = [ItemState(item_id, 5, columns, {}, True) for item_id in ("withdrawn", "again")]
    rows.append(ItemState("deleted", 5, columns, {DELETED: 8}, True, START))
    registers.merge_states(spark_session, home.settings, as_rows(spark_session, rows))
    named = [ItemState("withdrawn", 5, columns), ItemState("deleted", 5, columns), ItemState("again", 4, columns)]
    for back, expected in ((False, {"withdrawn", "again", "deleted"}), (True, {"again", "deleted"})):
        registers.merge_states(spark_session, home.settings, as_rows(spark_session, named), back=back)
        assert {item_id for item_id, state in held(home).items() if state.deleted} == expected


def test_a_table_from_before_the_registers_gets_them_and_is_merged_by_its_versions(spark_session, make_home):
    home = make_home()
    old_schema = pa.schema(list(SILVER.schema)[:-3])
    columns = {name: make(1) for name, make in VALUES.items()}
    old = table_of([ItemState("a", 5, columns), ItemState("b", 5, columns)]).select(old_schema.names)
    write_deltalake(home.tables.uri("silver"), old.cast(old_schema), partition_by=["shard"])
    assert home.tables.read(SILVER)["column_versions"].null_count == 2  # read before it is migrated
    tables.ensure_tables(spark_session, home.settings)
    version = home.tables.version("silver")
    tables.ensure_tables(spark_session, home.settings)
    assert home.tables.version("silver") == version == 1
    assert home.tables.columns("silver") == SILVER.schema.names
    streamed = [ItemState(item_id, 5, columns).set_columns(at, {"price": 9.0}, START)[0]
                for item_id, at in (("a", 7), ("b", 5))]  # fmt: skip
    registers.merge_states(spark_session, home.settings, as_rows(spark_session, streamed))
    rows = {row["item_id"]: row for row in home.tables.read(SILVER).to_pylist()}
    assert (rows["a"]["price"], rows["a"]["version"], rows["a"]["base_version"]) == (9.0, 7, 5)
    assert (rows["b"]["price"], rows["b"]["column_versions"]) == (0.25, None)
