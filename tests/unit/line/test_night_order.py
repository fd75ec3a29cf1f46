"""Where a snapshot stands among those in BRONZE, and what embedding has left to do; both without a JVM."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from lookalike.catalogue.snapshot import Snapshot
from lookalike.contracts.settings import load_settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import BRONZE, EMBEDDINGS, SILVER
from lookalike.storage.delta import AppTransaction, DeltaTables
from spark.embed_plan import pack, plan
from spark.snapshot_order import bronze_transaction, in_bronze, order_of

SPACE = EmbeddingSpace(
    encoder="tiny", weights_sha256="a" * 64, preprocessing_sha256="b" * 64, tokenizer_sha256="c" * 64, dim=2
)


@pytest.fixture
def known(tmp_path):
    return DeltaTables(tmp_path / "tables")


@pytest.fixture
def arrive(known, tmp_path):
    def arrive(name: str, day: int, complete: bool = True, source: str = "shop") -> Snapshot:
        made = datetime(2026, 11, day, tzinfo=UTC)
        snapshot = Snapshot(name, source, complete, 2, made.isoformat(), "0" * 64, tmp_path)
        rows = [
            {"snapshot_id": name, "row_number": row, "source": source, "received_at": made, "payload": "{}"}
            for row in range(2)
        ]
        transaction = AppTransaction(bronze_transaction(snapshot), 1)
        known.append(BRONZE, pa.Table.from_pylist(rows, schema=BRONZE.schema), transaction)
        return snapshot

    return arrive


def test_the_order_is_of_time_whatever_came_first(known, arrive):
    last, first, other = arrive("c", 3), arrive("a", 1), arrive("z", 4, source="other")
    middle = arrive("b", 2, complete=False)
    order = order_of(known, middle)
    assert (order.later, order.newest, order.naming) == (("c", "z"), False, ("c",))
    assert order.complete_at == (datetime(2026, 11, 3, tzinfo=UTC), "c")
    assert order_of(known, last).newest
    assert order_of(known, last).naming == ("c",)
    assert order_of(known, first).later == ("b", "c", "z")
    assert order_of(known, other).naming == ("z",)


def test_snapshots_after_the_newest_complete_one_name_items_too(known, arrive):
    arrive("a", 1)
    complete, partial = arrive("b", 2), arrive("c", 3, complete=False)
    for snapshot in (complete, partial):
        assert order_of(known, snapshot).naming == ("b", "c")
    assert not order_of(known, complete).newest
    assert order_of(known, partial).complete_at == order_of(known, complete).place


def test_without_a_complete_snapshot_nobody_speaks_for_all(known, arrive):
    order = order_of(known, arrive("a", 1, complete=False))
    assert (order.complete_at, order.naming, order.newest) == (None, (), True)


def test_of_one_moment_the_name_decides(known, arrive):
    first, second = arrive("a", 1), arrive("b", 1)
    assert order_of(known, first).later == ("b",)
    assert order_of(known, second).newest


def test_rows_from_before_complete_snapshots_had_a_name_are_not_taken_twice(known, arrive, tmp_path):
    old = arrive("a", 1, complete=False)
    completed = Snapshot("a", "shop", True, 2, old.created_at, old.content_sha256, tmp_path)
    assert in_bronze(known, completed)
    assert not in_bronze(known, Snapshot("b", "shop", True, 2, old.created_at, old.content_sha256, tmp_path))


def test_the_plan_counts_what_the_tables_lack(tmp_path):
    settings = load_settings(home=tmp_path, embed={"chunk_items": 2})
    tables = DeltaTables(settings.tables_root)
    pictures = {f"i{n}": f"{n % 7:04x}".ljust(64, "0") for n in range(10)}  # i7, i8, i9 show what i0, i1, i2 show
    silver = [
        {"item_id": item, "version": 1, "title": "t", "image_path": "p", "content_hash": digest, "width": 1,
         "height": 1, "source": "shop", "snapshot_id": "s", "deleted": item == "i6", "shard": 0}
        for item, digest in pictures.items()
    ]  # fmt: skip
    vectors = [
        {"item_id": item, "space": space, "content_hash": digest, "item_version": 1, "encoder_version": "e",
         "vector": [1.0, 0.0], "l2_norm": 1.0}
        for item, digest, space in (
            ("i0", pictures["i0"], SPACE.fingerprint),
            ("i1", "f" * 64, SPACE.fingerprint),  # of a picture that it no longer shows
            ("i2", pictures["i2"], "0" * 16),
        )
    ]  # fmt: skip
    tables.append(SILVER, pa.Table.from_pylist(silver, schema=SILVER.schema))
    tables.append(EMBEDDINGS, pa.Table.from_pylist(vectors, schema=EMBEDDINGS.schema))
    left = plan(settings, SPACE)
    assert (left.items, left.done, left.copied, left.pictures, left.chunks) == (9, 1, 1, 5, 3)


def test_chunks_that_are_left_stay_as_they_were():
    counts = {f"{n:04x}": n % 3 + 1 for n in range(20)}
    ranges = pack(counts, 5)
    assert sum(count for _, _, count in ranges) == sum(counts.values())
    assert all(count <= 5 for _, _, count in ranges)
    rest = {prefix: count for prefix, count in counts.items() if prefix > ranges[1][1]}
    assert pack(rest, 5) == ranges[2:]
