"""The Delta tables as Spark makes and merges them, all derived from `lookalike.contracts.tables`.

CHECK constraints are given as table properties at creation: one commit instead of one scan per constraint, and
there is no moment in which the table exists without them. SILVER's own MERGE is in `spark.registers`.
"""

from typing import TYPE_CHECKING

from lookalike.contracts.errors import CorruptArtifact
from lookalike.contracts.settings import Settings
from lookalike.contracts.tables import BRONZE, EMBEDDINGS, REFUSED, SILVER, MergeRule, TableContract
from lookalike.storage.delta import KEEP_LOG, DeltaTables
from lookalike.storage.table_lock import only_writer

if TYPE_CHECKING:
    from delta.tables import DeltaTable
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

SPARK_TABLES = (BRONZE, SILVER, EMBEDDINGS, REFUSED)


def spark_schema(contract: TableContract) -> "StructType":
    """The contract's schema in Spark's types; required columns are not nullable."""
    from pyspark.sql.pandas.types import from_arrow_schema
    from pyspark.sql.types import StructField, StructType

    converted = from_arrow_schema(contract.schema)
    required = {field.name for field in contract.schema if not field.nullable}
    return StructType(
        [StructField(column.name, column.dataType, column.name not in required) for column in converted.fields]
    )


def ensure_tables(session: "SparkSession", settings: Settings) -> None:
    """Create the tables that do not exist yet; tables from before a column was added get it, empty."""
    from delta.tables import DeltaTable

    known = DeltaTables(settings.tables_root)
    for contract in SPARK_TABLES:
        if known.exists(contract.name):
            _add_columns(session, known, contract)
            continue
        builder = DeltaTable.createIfNotExists(session).location(known.uri(contract.name))
        builder = builder.addColumns(spark_schema(contract))
        if contract.partition_by:
            builder = builder.partitionedBy(*contract.partition_by)
        for key, value in table_properties(contract).items():
            builder = builder.property(key, value)
        builder.execute()


def _add_columns(session: "SparkSession", known: DeltaTables, contract: TableContract) -> None:
    """One commit, or none. Raises CorruptArtifact when a column is missing that may not be empty."""
    there = set(known.columns(contract.name))
    absent = [column for column in spark_schema(contract).fields if column.name not in there]
    required = [column.name for column in absent if not column.nullable]
    if required:
        raise CorruptArtifact(
            f"the table at {known.uri(contract.name)} lacks {', '.join(required)}: it is no {contract.name} table of "
            "Lookalike; move it away or set tables.root to another place"
        )
    if absent:
        added = ", ".join(f"`{column.name}` {column.dataType.simpleString()}" for column in absent)
        session.sql(f"ALTER TABLE delta.`{known.uri(contract.name)}` ADD COLUMNS ({added})")


def table_properties(contract: TableContract) -> dict[str, str]:
    """Delta properties of a table: change data feed, no deletion vectors, and its CHECK constraints."""
    return {
        "delta.enableChangeDataFeed": str(contract.change_data_feed).lower(),
        "delta.enableDeletionVectors": "false",
        KEEP_LOG: "false",
        **{f"delta.constraints.{name}": check for name, check in contract.constraints.items()},
    }


def open_table(session: "SparkSession", settings: Settings, contract: TableContract) -> "DeltaTable":
    """A fresh handle for a MERGE; an old one fails after another writer's commit."""
    from delta.tables import DeltaTable

    return DeltaTable.forPath(session, DeltaTables(settings.tables_root).uri(contract.name))


def read_table(session: "SparkSession", settings: Settings, contract: TableContract) -> "DataFrame":
    """The newest version of the table."""
    return session.read.format("delta").load(DeltaTables(settings.tables_root).uri(contract.name))


def append_once(rows: "DataFrame", settings: Settings, contract: TableContract, transaction: str) -> None:
    """Append in one commit that is skipped when `transaction` is in the table's log already."""
    (
        rows.select(*contract.schema.names)
        .write.format("delta")
        .mode("append")
        .option("txnAppId", transaction)
        .option("txnVersion", "1")
        .save(DeltaTables(settings.tables_root).uri(contract.name))
    )


def update_condition(contract: TableContract) -> str:
    """SQL over `t` (there) and `s` (new): when a matched row is replaced, from the contract's merge rule."""
    match contract.merge:
        case MergeRule.REPLACE_CONTENT:
            return "s.content_hash <> t.content_hash"
        case MergeRule.LATEST_VERSION:
            raise ValueError(f"{contract.name} is merged column by column: spark.registers")
        case MergeRule.APPEND:
            raise ValueError(f"{contract.name} is a history: rows are appended, never merged")


def merge(
    session: "SparkSession", settings: Settings, contract: TableContract, rows: "DataFrame", pinned_to: str
) -> None:
    """Idempotent upsert of `rows` (unique by key) by the contract's rule.

    `pinned_to` is a condition over `t` with literal partition values: the MERGE then reads only those partitions and
    does not conflict with writers of others.
    """
    on = [f"t.{column} = s.{column}" for column in (*contract.partition_by, *contract.key)]
    with only_writer(settings.locks_root, contract.name, f"a merge of rows where {pinned_to}"):
        (
            open_table(session, settings, contract)
            .alias("t")
            .merge(rows.select(*contract.schema.names).alias("s"), " AND ".join(dict.fromkeys([pinned_to, *on])))
            .whenMatchedUpdateAll(condition=update_condition(contract))
            .whenNotMatchedInsertAll()
            .execute()
        )
