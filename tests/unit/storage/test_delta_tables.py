"""Delta through delta-rs: pinned versions, filters, appends by several writers, clear errors."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from lookalike.contracts.errors import NotFound
from lookalike.contracts.tables import EMBEDDINGS, LEDGER, REPLAYS
from lookalike.storage.delta import DeltaTables


def ledger_rows(*versions: str) -> pa.Table:
    now = datetime.now(UTC)
    rows = [
        {"at": now, "action": "registered", "version": v, "previous": None, "actor": "t", "evidence": "{}"}
        for v in versions
    ]
    return pa.Table.from_pylist([row | {"verdict_sha256": None} for row in rows], schema=LEDGER.schema)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(NotFound, match="ledger"):
        DeltaTables(tmp_path).version("ledger")


def test_a_pinned_version_does_not_see_later_rows(tmp_path):
    tables = DeltaTables(tmp_path)
    tables.append(LEDGER, ledger_rows("1", "2"))
    pinned = tables.version("ledger")
    tables.append(LEDGER, ledger_rows("3"))
    assert tables.read(LEDGER, ["version"], version=pinned).to_pylist() == [{"version": "1"}, {"version": "2"}]
    found = tables.read(LEDGER, ["version"], where="version > '1'", order_by="version DESC")
    assert found["version"].to_pylist() == ["3", "2"]


def test_an_empty_result_keeps_the_contract_schema(tmp_path):
    tables = DeltaTables(tmp_path)
    tables.append(LEDGER, ledger_rows("1"))
    assert tables.read(LEDGER, where="version = 'x'").schema.names == LEDGER.schema.names


def test_vectors_come_back_as_float32_lists(tmp_path):
    tables = DeltaTables(tmp_path)
    row = {
        "item_id": "a", "space": "0" * 16, "content_hash": "f" * 64, "item_version": 1,
        "encoder_version": "e", "vector": [0.6, 0.8], "l2_norm": 1.0,
    }  # fmt: skip
    tables.append(EMBEDDINGS, pa.Table.from_pylist([row], schema=EMBEDDINGS.schema))
    got = tables.read(EMBEDDINGS, ["item_id", "vector"], where=f"space = '{'0' * 16}'")
    assert got.schema.field("vector").type == pa.list_(pa.float32())
    assert got["vector"].to_pylist()[0] == pytest.approx([0.6, 0.8])


def test_concurrent_writers_lose_nothing(tmp_path):
    tables = DeltaTables(tmp_path)
    tables.append(LEDGER, ledger_rows("0"))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: DeltaTables(tmp_path).append(LEDGER, ledger_rows(str(n))), range(1, 13)))
    assert sorted(int(v) for v in tables.read(LEDGER, ["version"])["version"].to_pylist()) == list(range(13))


def test_counts_obey_the_filter(tmp_path):
    tables = DeltaTables(tmp_path)
    tables.append(LEDGER, ledger_rows("1", "2", "3"))
    assert (tables.count(LEDGER), tables.count(LEDGER, "version >= '2'")) == (3, 2)
    assert sum(batch.num_rows for batch in tables.raw_batches("ledger")) == 3


def test_a_table_from_before_a_column_was_added_reads_as_if_it_were_empty(tmp_path):
    tables = DeltaTables(tmp_path)
    older = pa.schema([field for field in LEDGER.schema if field.name not in ("previous", "actor")])
    write_deltalake(tables.uri("ledger"), ledger_rows("1").select(older.names).cast(older))
    assert set(tables.columns("ledger")) == set(older.names)
    assert tables.read(LEDGER, ["version", "previous"]).to_pylist() == [{"version": "1", "previous": None}]
    with pytest.raises(Exception, match="actor"):  # may not be empty: its absence is an error
        tables.read(LEDGER, ["actor"])


def test_columns_that_are_words_of_sql_are_read(tmp_path):
    tables = DeltaTables(tmp_path)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    row = {
        "snapshot_id": "s", "row_number": 1, "at": at, "actor": "a", "partition": 1, "offset": 7,
    }  # fmt: skip
    tables.append(REPLAYS, pa.Table.from_pylist([row], schema=REPLAYS.schema))
    assert tables.read(REPLAYS).to_pylist() == [row]
