"""Rows of one version in two snapshots: the one of the earlier snapshot stands, in whatever order they came.

A source that raises its versions as it should sends the same row twice, and only `snapshot_id` differs. When the
earlier snapshot comes second, its row takes the place of the later one's; what the stream has set since stays.
"""

from typing import TYPE_CHECKING

from lookalike.contracts.item_state import PICTURE, PICTURE_COLUMNS, PLAIN_COLUMNS
from lookalike.contracts.settings import Settings
from lookalike.contracts.tables import SILVER
from spark import tables
from spark.registers import base_version

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def replace_later(session: "SparkSession", settings: Settings, rows: "DataFrame", later: tuple[str, ...]) -> None:
    """Put whole `rows` (SILVER's columns) where SILVER has the same version from one of the snapshots `later`."""
    from pyspark.sql import functions as F

    tied = F.expr(f"{base_version('t')} = {base_version('s')}") & F.col("t.snapshot_id").isin(*later)
    registers = dict.fromkeys(PICTURE_COLUMNS, PICTURE) | {column: column for column in PLAIN_COLUMNS}
    columns = {
        column: f"CASE WHEN try_element_at(t.column_versions, '{register}') IS NULL THEN s.{column} ELSE t.{column} END"
        for column, register in registers.items()
    }
    (
        tables.open_table(session, settings, SILVER)
        .alias("t")
        .merge(rows.select(*SILVER.schema.names).alias("s"), "t.shard = s.shard AND t.item_id = s.item_id")
        .whenMatchedUpdate(condition=tied, set={**columns, "snapshot_id": "s.snapshot_id"})
        .execute()
    )
