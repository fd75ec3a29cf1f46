"""Deletes that the stream took before anything described their item: a snapshot's older row must not revive it.

Such a delete has no row in SILVER to live in. It waits in CHANGES and is joined to the first row that describes the
item, as if it had come after it.
"""

from typing import TYPE_CHECKING

from lookalike.contracts.change import ChangeKind
from lookalike.contracts.item_state import DELETED, UNSEEN
from lookalike.contracts.settings import Settings
from lookalike.contracts.tables import CHANGES
from lookalike.storage.delta import DeltaTables
from spark import tables

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_BARE = f"kind = '{ChangeKind.DELETE}' AND state LIKE '%\"base_version\":{UNSEEN},%'"
_STATE = "base_version bigint, deleted boolean, changed_at timestamp"


def with_tombstones(session: "SparkSession", settings: Settings, rows: "DataFrame") -> "DataFrame":
    """Whole rows (SILVER's columns) of a snapshot, each joined with a delete of a higher version, if there was one."""
    from pyspark.sql import functions as F

    known = DeltaTables(settings.tables_root)
    if not known.exists(CHANGES.name) or not known.count(CHANGES, _BARE):
        return rows
    state = F.from_json("state", _STATE).alias("state")
    bare = tables.read_table(session, settings, CHANGES).where(_BARE).select("item_id", "version", state)
    bare = bare.where((F.col("state.base_version") == UNSEEN) & F.col("state.deleted"))
    newest = bare.groupBy("item_id").agg(
        F.max("version").alias("deleted_at"), F.max_by("state.changed_at", "version").alias("deleted_time")
    )
    beaten = F.col("deleted_at") > F.col("version")
    marked = {
        "deleted": F.when(beaten, True).otherwise(F.col("deleted")),
        "column_versions": F.when(beaten, F.create_map(F.lit(DELETED), "deleted_at")),
        "changed_at": F.when(beaten, F.col("deleted_time")),
        "version": F.when(beaten, F.col("deleted_at")).otherwise(F.col("version")),
    }
    return rows.join(newest, "item_id", "left").withColumns(marked).select(*rows.columns)
