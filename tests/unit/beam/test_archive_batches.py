"""Batches of the archive on real Delta tables: once each, nothing left out, refused keys once."""

from datetime import UTC, datetime

import numpy as np
import pytest

from beam.archive import ArchiveGap, application, archived_offset, change_rows, write_batch
from beam.read import FIRST, LogRecord
from lookalike.catalogue.refused_rows import RefusedChange
from lookalike.contracts.change import ChangeKind, Position, Topic
from lookalike.contracts.item_state import ItemState, unknown_item
from lookalike.contracts.product import RefusalReason
from lookalike.contracts.settings import load_settings
from lookalike.contracts.tables import CHANGES, REFUSED
from lookalike.contracts.vector_update import VectorUpdate
from lookalike.storage.delta import AppTransaction, DeltaTables

AT = datetime(2026, 11, 23, 10, tzinfo=UTC)


def update(offset: int, vectors=None) -> VectorUpdate:
    state, _ = unknown_item(f"item-{offset}").set_deleted(offset, True, AT)
    return VectorUpdate(Position(1, offset + 100), state, ChangeKind.DELETE, AT, vectors or {})


def records(*offsets: int, previous: int = FIRST, mark: int | None = None) -> tuple[LogRecord, ...]:
    before = [previous, *offsets]
    return tuple(
        LogRecord(
            Topic.UPDATES, 1, offset, last, b"k",
            (VectorUpdate(Position(1, offset)) if offset == mark else update(offset)).encode(), 1_000 + offset,
        )
        for last, offset in zip(before, offsets, strict=False)
    )  # fmt: skip


def refusals(*rows: tuple[int, int], previous: int = FIRST) -> tuple[LogRecord, ...]:
    """(offset in `refused`, offset of the refused change)."""
    made = []
    for offset, origin in rows:
        value = RefusedChange(1, origin, "shop", None, RefusalReason.MALFORMED, "no JSON", AT, "{").encode()
        made.append(LogRecord(Topic.REFUSED, 1, offset, previous, b"k", value, 5))
        previous = offset
    return tuple(made)


@pytest.fixture
def tables(tmp_path) -> DeltaTables:
    return DeltaTables(load_settings(home=tmp_path).tables_root)


def offsets(tables) -> list[int]:
    return sorted(tables.read(CHANGES, ("offset",))["offset"].to_pylist())


def test_a_batch_is_written_once_and_the_table_says_where_to_go_on(tables, tmp_path):
    settings = load_settings(home=tmp_path)
    assert archived_offset(settings, Topic.UPDATES, 1) is None
    assert write_batch(tables, records(3, 4, 9))
    assert not write_batch(tables, records(3, 4, 9))
    assert write_batch(tables, records(4, 9, 10))  # overlaps: only what is new
    assert offsets(tables) == [3, 4, 9, 10]
    assert archived_offset(settings, Topic.UPDATES, 1) == 11
    assert archived_offset(settings, Topic.UPDATES, 0) is None


def test_progress_marks_are_no_rows_but_move_the_version(tables):
    write_batch(tables, records(0, 1, mark=1))
    write_batch(tables, records(2, previous=1, mark=2))
    assert offsets(tables) == [0]
    assert tables.transaction_version(CHANGES, application(Topic.UPDATES, 1)) == 2


def test_a_hole_is_refused(tables):
    write_batch(tables, records(0, 1))
    with pytest.raises(ArchiveGap, match="up to offset 1"):
        write_batch(tables, records(6, 7, previous=5))
    assert offsets(tables) == [0, 1]


def test_rows_hold_what_the_message_says():
    vectors = {"a" * 16: np.array([0.6, 0.8], np.float32), "b" * 16: np.array([1, 0, 0], np.float32)}
    message = update(7, vectors)
    record = LogRecord(Topic.UPDATES, 1, 7, FIRST, message.key, message.encode(), 1_500)
    plain = LogRecord(Topic.UPDATES, 1, 8, 7, b"k", update(8).encode(), 1_500)
    row, second = change_rows([record, plain]).to_pylist()
    assert {one["space"]: one["vector"] for one in row["vectors"]} == {
        space: vector.tolist() for space, vector in vectors.items()
    }
    assert second["vectors"] == []
    assert (row["partition"], row["offset"], row["origin_offset"], row["item_id"]) == (1, 7, 107, "item-7")
    assert (row["version"], row["kind"], row["event_time"]) == (7, "delete", AT)
    assert row["published_at"] == datetime.fromtimestamp(1.5, UTC)
    assert ItemState.from_dict(__import__("json").loads(row["state"])) == message.state


def test_a_refused_change_is_in_the_table_once(tables):
    write_batch(tables, refusals((0, 40), (1, 41), (2, 40)))
    write_batch(tables, refusals((3, 41), (4, 42), previous=2))
    rows = tables.read(REFUSED, ("snapshot_id", "row_number")).to_pylist()
    assert sorted((row["snapshot_id"], row["row_number"]) for row in rows) == [
        ("catalogue-changes-1", 40), ("catalogue-changes-1", 41), ("catalogue-changes-1", 42),
    ]  # fmt: skip
    assert tables.transaction_version(REFUSED, application(Topic.REFUSED, 1)) == 4


def test_an_append_of_the_same_transaction_in_between_makes_ours_fail_not_double(tables, monkeypatch):
    """Two writers that both saw version 1 of the application."""
    rows = change_rows(records(5))
    tables.append(CHANGES, change_rows(records(1)), AppTransaction("app", 1))
    real, late = DeltaTables._open, []

    def open_and_be_overtaken(self, name, version):
        handle = real(self, name, version)
        if not late:
            late.append(1)
            DeltaTables(self.root).append(CHANGES, rows, AppTransaction("app", 5))
        return handle

    monkeypatch.setattr(DeltaTables, "create", lambda self, contract: None)
    monkeypatch.setattr(DeltaTables, "_open", open_and_be_overtaken)
    assert tables.append(CHANGES, rows, AppTransaction("app", 5)) is False
    assert offsets(tables) == [1, 5]


def test_tables_are_made_as_the_contract_says(tables):
    from deltalake import DeltaTable

    tables.create(CHANGES)
    tables.create(REFUSED)
    changes, refused = (DeltaTable(tables.uri(name)) for name in (CHANGES.name, REFUSED.name))
    assert refused.metadata().partition_columns == ["snapshot_id"]
    for table in (changes, refused):
        assert table.metadata().configuration["delta.enableChangeDataFeed"] == "true"
