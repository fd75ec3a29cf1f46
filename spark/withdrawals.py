"""Withdrawal: what the newest complete snapshot of a source, and those after it, no longer name is marked deleted.

Whether a row is withdrawn follows from BRONZE and the row alone, never from the order in which snapshots came: an older
snapshot neither revives what a newer one does not name nor withdraws what a newer one names. What the stream changed
after the complete snapshot was made is left, and so is what the stream deleted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lookalike.contracts.item_state import DELETED
from lookalike.contracts.settings import Settings
from lookalike.contracts.tables import BRONZE, SILVER
from spark import tables
from spark.snapshot_order import SnapshotOrder

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True)
class Naming:
    """Who names what: `named` has the item_ids of the snapshot at hand, `ids_of` gives those of rows of BRONZE."""

    source: str
    named: "DataFrame"
    ids_of: Callable[["DataFrame"], "DataFrame"]


def settle(session: "SparkSession", settings: Settings, order: SnapshotOrder, naming: Naming) -> int:
    """Mark and unmark the rows of SILVER that this snapshot can have changed; returns how many it withdrew.

    Only a snapshot that is itself the newest complete one speaks for all rows of its source; any other one for the
    items that it names.
    """
    from pyspark.sql import functions as F

    if order.complete_at is None:
        return 0
    silver = tables.read_table(session, settings, SILVER).where(F.col("source") == naming.source)
    mine = silver.select("shard", "item_id", "deleted", "changed_at", "column_versions")
    if order.place != order.complete_at:
        mine = mine.join(naming.named, "item_id", "left_semi")
    kept = _kept(session, settings, order, naming).withColumn("kept", F.lit(True))
    judged = mine.join(kept, "item_id", "left")
    untouched = F.col("changed_at").isNull() | (F.col("changed_at") < F.lit(order.complete_at[0]))
    by_change = F.expr(f"try_element_at(column_versions, '{DELETED}')").isNotNull()
    gone = ~F.col("deleted") & F.col("kept").isNull() & untouched
    back = F.col("deleted") & F.col("kept").isNotNull() & ~by_change
    flips = judged.where(gone | back).select("shard", "item_id", (~F.col("deleted")).alias("deleted")).persist()
    try:
        withdrawn = flips.where("deleted").count()
        if withdrawn or not flips.isEmpty():
            _mark(session, settings, flips)
    finally:
        flips.unpersist()
    return withdrawn


def _kept(session: "SparkSession", settings: Settings, order: SnapshotOrder, naming: Naming) -> "DataFrame":
    """item_ids that the newest complete snapshot or a later one names, as far as they matter for this snapshot."""
    if order.complete_at is not None and order.place > order.complete_at:
        return naming.named
    others: Sequence[str] = [name for name in order.naming if name != order.place[1]]
    kept = naming.named if order.place == order.complete_at else None
    if others:
        bronze = tables.read_table(session, settings, BRONZE)
        theirs = naming.ids_of(bronze.where(bronze["snapshot_id"].isin(*others)))
        kept = theirs if kept is None else kept.unionByName(theirs).distinct()
    assert kept is not None, "a snapshot is the newest complete one or older than another"
    return kept


def _mark(session: "SparkSession", settings: Settings, flips: "DataFrame") -> None:
    (
        tables.open_table(session, settings, SILVER)
        .alias("t")
        .merge(flips.alias("s"), "t.shard = s.shard AND t.item_id = s.item_id")
        .whenMatchedUpdate(condition="t.deleted <> s.deleted", set={"deleted": "s.deleted"})
        .execute()
    )
