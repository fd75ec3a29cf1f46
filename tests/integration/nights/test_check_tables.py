"""Expectations on the tables as they are: rows lost against what the live release was built from, vectors that lack."""

import hashlib
from types import SimpleNamespace

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from lookalike.contracts.settings import load_settings
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.line import check_tables
from lookalike.releases.encoder_in_use import encoder_in_use
from lookalike.storage.delta import DeltaTables

pytestmark = pytest.mark.slow

ITEMS = 100


@pytest.fixture
def settings(tmp_path):
    return load_settings(home=tmp_path)


@pytest.fixture
def tables(settings):
    """100 live items in version 1 of silver, and one that was deleted before."""
    made = DeltaTables(settings.tables_root)
    rows = [
        {"item_id": f"i{n}", "version": 1, "title": f"thing {n}", "image_path": f"{n}.png",
         "content_hash": hashlib.sha256(str(n).encode()).hexdigest(), "width": 8, "height": 8, "source": "shop",
         "snapshot_id": "first", "deleted": n == ITEMS, "shard": 0}
        for n in range(ITEMS + 1)
    ]  # fmt: skip
    made.append(SILVER, pa.Table.from_pylist(rows, schema=SILVER.schema))
    return made


def serve(monkeypatch, silver_version: int) -> None:
    """A live release that pins this version of silver, with an index of 90 items."""
    live = SimpleNamespace(version="7", items=90, table_versions={"silver": silver_version})
    monkeypatch.setattr(check_tables, "Registry", lambda settings: SimpleNamespace(alias=lambda name: live))


def withdraw(tables, items: int) -> None:
    table = DeltaTable(tables.uri(SILVER.name))
    table.update(updates={"deleted": "true"}, predicate=" OR ".join(f"item_id = 'i{n}'" for n in range(items)))


def test_rows_are_compared_with_the_pinned_version_of_the_live_release(settings, tables, monkeypatch, caplog):
    pinned = tables.version(SILVER.name)
    withdraw(tables, 6)
    serve(monkeypatch, pinned)
    lost = check_tables.check_silver(settings)
    assert not lost.passed
    assert lost.failed == ("at least 95 rows remain of 100 in live: observed 94",)
    assert lost.checks[0].docs.is_file()

    serve(monkeypatch, 99)  # a version that nobody can read: the items of the index are what is left to compare with
    assert check_tables.check_silver(settings).passed
    assert "cannot be read any more" in caplog.text


def test_each_item_needs_a_vector_of_its_present_picture(settings, tables, monkeypatch):
    from models.encoders import open_encoder

    space = open_encoder(encoder_in_use(settings), device="cpu", threads=1).space
    one = [1.0] + [0.0] * (space.dim - 1)
    rows = [
        {"item_id": row["item_id"], "space": space.fingerprint, "content_hash": row["content_hash"], "item_version": 1,
         "encoder_version": "e", "vector": one, "l2_norm": 1.0}
        for row in tables.read(SILVER, order_by="item_id").to_pylist()[1:]
    ]  # fmt: skip
    rows[0]["content_hash"] = "f" * 64
    tables.append(EMBEDDINGS, pa.Table.from_pylist(rows, schema=EMBEDDINGS.schema))
    checked = check_tables.check_embeddings(settings)
    assert [each.space for each in checked.checks] == [space.fingerprint]
    assert not checked.passed
    assert [failed.partition(":")[0] for failed in checked.failed] == [
        "every live item has a vector",
        "every vector is of its item's present picture",
    ]
