"""SILVER's MERGE: what `ItemState.merge` does to two states, as SQL over a table row `t` and a new row `s`.

Generated from the names of the registers, so that a new column of the state is merged without a word here. Snapshots,
the stream's changes and recorded events all come through it, in any order. A row of equal registers changes nothing
and no file is written for it.
"""

from typing import TYPE_CHECKING

from lookalike.contracts.item_state import DELETED, PICTURE, PICTURE_COLUMNS, PLAIN_COLUMNS, REGISTERS, UNSEEN
from lookalike.contracts.settings import Settings
from lookalike.contracts.tables import SILVER
from spark.tables import open_table, read_table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_IN_ORDER = sorted(REGISTERS)
STATE = ("item_id", "shard", "version", "base_version", "column_versions", "deleted", "changed_at")
"""Columns of a SILVER row that tell whether another row brings anything new."""


def base_version(side: str) -> str:
    """SQL: version of the last whole row; rows from before there were registers have it in `version`."""
    return f"coalesce({side}.base_version, {side}.version)"


def version_of(side: str, register: str) -> str:
    """SQL: version that last set the register."""
    return f"coalesce(try_element_at({side}.column_versions, '{register}'), {base_version(side)})"


def wins(register: str) -> str:
    """SQL: whether the new row's register is the newer one; on a tie the table's stays."""
    return f"{version_of('s', register)} > {version_of('t', register)}"


def comes_back(side: str = "s") -> str:
    """SQL: a withdrawn item that the newest snapshot of its source names again, with the version that it had.

    A snapshot withdraws without a version of its own, so naming the item again undoes it. A delete by the stream has
    a version: a row of a lower one leaves it.
    """
    return f"t.deleted AND NOT {side}.deleted AND {version_of(side, DELETED)} = {version_of('t', DELETED)}"


def described(side: str) -> str:
    """SQL: whether a whole row is known; not so for the tombstone of an item that was never described."""
    return f"{base_version(side)} > {UNSEEN}"


def brings_news(back: bool = False) -> str:
    """SQL: whether merging `s` changes `t`; `back` as in `merge_states`."""
    newer = [f"{base_version('s')} > {base_version('t')}", *(wins(register) for register in REGISTERS)]
    later = "s.version = t.version AND NOT (greatest(s.changed_at, t.changed_at) <=> t.changed_at)"
    return " OR ".join([*newer, f"({later})", *([f"({comes_back()})"] if back else [])])


def merged_columns(back: bool = False) -> dict[str, str]:
    """SQL by column: the joined row. `snapshot_id` follows the whole row, for it names where that was received."""
    whole = f"{base_version('s')} > {base_version('t')}"
    chosen = {column: wins(column) for column in PLAIN_COLUMNS} | dict.fromkeys(PICTURE_COLUMNS, wins(PICTURE))
    columns = {name: f"CASE WHEN {newer} THEN s.{name} ELSE t.{name} END" for name, newer in chosen.items()}
    undone = f"{wins(DELETED)} OR ({comes_back()})" if back else wins(DELETED)
    return columns | {
        "deleted": f"CASE WHEN {undone} THEN s.deleted ELSE t.deleted END",
        "snapshot_id": f"CASE WHEN {whole} THEN s.snapshot_id ELSE t.snapshot_id END",
        "version": "greatest(s.version, t.version)",
        "base_version": f"greatest({base_version('s')}, {base_version('t')})",
        "column_versions": _column_versions(),
        "changed_at": "CASE WHEN s.version = t.version THEN greatest(s.changed_at, t.changed_at) "
        "WHEN s.version > t.version THEN s.changed_at ELSE t.changed_at END",
    }


def _column_versions() -> str:
    """SQL: the registers set since the newer whole row, by name in order; null when there are none."""
    base = f"greatest({base_version('s')}, {base_version('t')})"
    versions = [f"greatest({version_of('s', register)}, {version_of('t', register)})" for register in _IN_ORDER]
    every = f"map_from_arrays(array({', '.join(map(repr, _IN_ORDER))}), array({', '.join(versions)}))"
    touched = "s.column_versions IS NOT NULL OR t.column_versions IS NOT NULL"
    return f"CASE WHEN {touched} THEN {_null_when_empty(f'map_filter({every}, (name, at) -> at > {base})')} END"


def _null_when_empty(of: str) -> str:
    return f"try_element_at(filter(array({of}), each -> cardinality(each) > 0), 1)"


def canonical(rows: "DataFrame") -> "DataFrame":
    """SILVER's columns, `column_versions` in order of name and null when empty: equal states are equal rows."""
    from pyspark.sql import functions as F

    ordered = _null_when_empty("map_from_entries(array_sort(map_entries(column_versions)))")
    in_order = F.expr(f"CASE WHEN cardinality(column_versions) > 0 THEN {ordered} END")
    return rows.select(*SILVER.schema.names).withColumn("column_versions", in_order)


def only_news(session: "SparkSession", settings: Settings, rows: "DataFrame") -> "DataFrame":
    """Rows (SILVER's columns) that are new to the table or change theirs; tombstones of unknown items are left out."""
    from pyspark.sql import functions as F

    there = read_table(session, settings, SILVER).select(*STATE).alias("t")
    same = (F.col("t.shard") == F.col("s.shard")) & (F.col("t.item_id") == F.col("s.item_id"))
    news = F.when(F.col("t.item_id").isNull(), F.expr(described("s"))).otherwise(F.expr(brings_news()))
    return rows.alias("s").join(there, same, "left").where(news).select("s.*")


def merge_states(
    session: "SparkSession", settings: Settings, rows: "DataFrame", *, back: bool = False, transaction: str = ""
) -> None:
    """Join `rows` (SILVER's columns, unique by item) into SILVER in one commit, in the shards that they touch.

    Rows of items that were never described are joined to an item that is there, and left out otherwise. `back`: a
    withdrawn item comes back with the version that it had. The commit is skipped when `transaction` is in the table's
    log already.
    """
    shards = sorted(row["shard"] for row in rows.select("shard").distinct().collect())
    if not shards:
        return
    pinned = f"t.shard IN ({', '.join(map(str, shards))})"
    whole = {name: f"s.{name}" for name in SILVER.schema.names}
    merge = (
        open_table(session, settings, SILVER)
        .alias("t")
        .merge(canonical(rows).alias("s"), f"{pinned} AND t.shard = s.shard AND t.item_id = s.item_id")
        .whenMatchedUpdate(condition=brings_news(back), set=dict(merged_columns(back)))
        .whenNotMatchedInsert(condition=described("s"), values=dict(whole))
    )
    if not transaction:
        merge.execute()
        return
    marks = {"spark.databricks.delta.write.txnAppId": transaction, "spark.databricks.delta.write.txnVersion": "1"}
    try:
        for key, value in marks.items():
            session.conf.set(key, value)
        merge.execute()
    finally:
        for key in marks:
            session.conf.unset(key)
