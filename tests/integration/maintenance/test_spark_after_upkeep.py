"""Tables that Spark made, tended without a JVM, and then Spark again: reads, old versions, MERGE and transactions."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from lookalike.contracts.settings import load_settings
from lookalike.contracts.tables import EMBEDDINGS, REFUSED
from lookalike.storage.delta import DeltaTables
from lookalike.storage.delta_upkeep import TableUpkeep

pytestmark = pytest.mark.slow
SPACE = "0123456789abcdef"


def vectors(numbers, picture="a"):
    rows = [
        {"item_id": f"i{n}", "space": SPACE, "content_hash": picture * 64, "item_version": 1, "encoder_version": "t@a",
         "vector": [float(n), 0.5], "l2_norm": 1.0}
        for n in numbers
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=EMBEDDINGS.schema)


def refusals(number):
    row = {"snapshot_id": "s 1", "row_number": number, "source": "s", "item_id": "i", "reason": "r", "detail": "d",
           "refused_at": datetime(2026, 11, 1, tzinfo=UTC), "payload": "{}"}  # fmt: skip
    return pa.Table.from_pylist([row], schema=REFUSED.schema)


def test_spark_goes_on_with_what_upkeep_left(spark_session, tmp_path):
    from spark import tables as spark_tables

    settings = load_settings(home=tmp_path / "var", spark={"master": "local[2]"})
    tables = DeltaTables(settings.tables_root)
    spark_tables.ensure_tables(spark_session, settings)

    def merge(rows):
        frame = spark_session.createDataFrame(rows.to_pylist(), spark_tables.spark_schema(EMBEDDINGS))
        spark_tables.merge(spark_session, settings, EMBEDDINGS, frame, f"t.space = '{SPACE}'")

    def refuse(number):
        frame = spark_session.createDataFrame(refusals(number).to_pylist(), spark_tables.spark_schema(REFUSED))
        spark_tables.append_once(frame, settings, REFUSED, f"ingest:{number}")

    def by_spark(version=None):
        reader = spark_session.read.format("delta")
        reader = reader if version is None else reader.option("versionAsOf", version)
        rows = reader.load(tables.uri("embeddings")).orderBy("item_id").collect()
        return [(row["item_id"], row["content_hash"][0], list(row["vector"])) for row in rows]

    merge(vectors(range(4)))
    pinned, then = tables.version("embeddings"), by_spark()
    merge(vectors(range(2, 6), "b"))
    for number in range(20, 28):
        tables.append(EMBEDDINGS, vectors([number]))
    for number in range(2):
        refuse(number)
    before = by_spark()
    soon = datetime.now(UTC) + timedelta(minutes=1)
    for _ in range(2):
        for name, keep in (("embeddings", [pinned]), ("refused", [])):
            upkeep = TableUpkeep(tables, name, keep)
            upkeep.keep_log()
            upkeep.vacuum(0, dry_run=False)
            upkeep.compact(2**20)
            upkeep.checkpoint() or name == "embeddings" or upkeep._open().create_checkpoint()
            upkeep.clean_log(0, soon, dry_run=False)
    spark_session.catalog.clearCache()
    assert by_spark() == before and by_spark(pinned) == then
    assert len(list(Path(tables.uri("embeddings"), f"space={SPACE}").glob("*.parquet"))) <= 3

    merge(vectors(range(5, 8), "c"))
    assert [row[:2] for row in by_spark() if row[0] in {"i4", "i5", "i7"}] == [("i4", "b"), ("i5", "c"), ("i7", "c")]
    # The commits that held the transactions are gone from the log, the checkpoint remembers them.
    assert not Path(tables.uri("refused"), "_delta_log", f"{1:020d}.json").exists()
    refuse(1)
    assert tables.count(REFUSED) == 2
    with pytest.raises(Exception, match="norm_is_one"):
        bad = vectors([99]).set_column(6, EMBEDDINGS.schema.field("l2_norm"), pa.array([3.0], pa.float32()))
        merge(bad)
