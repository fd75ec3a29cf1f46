"""Pictures that the embedding job could not read, as rows of REFUSED: each with what was received, once.

An item that came in a snapshot is refused as the row that BRONZE has of it. One that came by the stream has no such
row: its payload is its state, and its row number a hash of the item and the version of its picture.
"""

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from lookalike.contracts.item_state import state_of_row
from lookalike.contracts.settings import Settings
from lookalike.contracts.tables import BRONZE, REFUSED, SILVER
from spark import tables

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

STATES = pa.schema([pa.field(name, pa.string()) for name in ("item_id", "source", "payload")])

STILL_REFUSED = "s.snapshot_id <> 'stream' OR strpos(r.payload, s.content_hash) > 0"
"""SQL over SILVER `s` and REFUSED `r` of the same item and snapshot: whether it is the picture that was refused.

A snapshot brings an item one picture; all that the stream ever brought shares one name, so there the picture decides.
"""


def refuse(session: "SparkSession", settings: Settings, lost: "DataFrame", space: str) -> int:
    """Append what REFUSED lacks of `lost`: items of SILVER (item_id, snapshot_id, base_version) with reason and detail.

    Returns the number of items.
    """
    from pyspark.sql import functions as F

    lost = lost.persist()
    count = lost.count()
    received = _received(session, settings, lost)
    states = _states(session, settings, lost.join(received, "item_id", "left_anti"))
    place = F.shiftrightunsigned(F.xxhash64("item_id", "base_version"), 1)
    streamed = lost.join(states, "item_id", "inner").select(
        *lost.columns, place.alias("row_number"), "source", "payload"
    )
    rows = received.unionByName(streamed).withColumn("refused_at", F.current_timestamp())
    there = tables.read_table(session, settings, REFUSED).select(*REFUSED.key)
    new = rows.join(there, list(REFUSED.key), "left_anti").persist()
    if new.count():
        tables.append_once(new, settings, REFUSED, f"embed:{space}:{time.time_ns()}")
    new.unpersist()
    lost.unpersist()
    return count


def _received(session: "SparkSession", settings: Settings, lost: "DataFrame") -> "DataFrame":
    """Items that came in a snapshot, with row number, source and payload as they were received."""
    from pyspark.sql import functions as F

    bronze = tables.read_table(session, settings, BRONZE).select(
        "snapshot_id",
        "row_number",
        "source",
        "payload",
        F.get_json_object("payload", "$.item_id").alias("item_id"),
        F.get_json_object("payload", "$.version").try_cast("bigint").alias("base_version"),
    )
    found = lost.join(bronze, ["snapshot_id", "item_id", "base_version"], "inner").dropDuplicates(["item_id"])
    return found.select(*lost.columns, "row_number", "source", "payload")


def _states(session: "SparkSession", settings: Settings, items: "DataFrame") -> "DataFrame":
    """STATES of these items, as SILVER has them."""
    from pyspark.sql.pandas.types import from_arrow_schema

    silver = tables.read_table(session, settings, SILVER)
    rows = silver.join(items.select("item_id"), "item_id", "left_semi")
    return rows.mapInArrow(write_states, from_arrow_schema(STATES))


def write_states(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Rows of SILVER → STATES: the payload is the JSON of the item's state."""
    for batch in batches:
        rows = [
            {"item_id": row["item_id"], "source": row["source"], "payload": state_of_row(row).to_json()}
            for row in batch.to_pylist()
        ]
        yield pa.RecordBatch.from_pylist(rows, schema=STATES)
