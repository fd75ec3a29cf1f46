"""The nightly fold: the stream's archived states into SILVER and EMBEDDINGS, once, whatever kills it on the way."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from lookalike.contracts.change import ChangeKind
from lookalike.contracts.item_state import ItemState, state_of_row, unknown_item
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.tables import CHANGES, EMBEDDINGS, FOLDS, REFUSED, SILVER
from lookalike.line.watermark import log_offsets
from lookalike.storage.delta import DeltaTables
from spark import embed as embed_job
from spark import fold as job
from spark import registers, tables
from spark.ingest import ingest

pytestmark = pytest.mark.slow

NOON = "2026-01-01T12:00:00+00:00"
LATER = "2026-01-02T12:00:00+00:00"
AT = datetime(2026, 1, 1, 18, tzinfo=UTC)
ITEMS = 12


@pytest.fixture(scope="module")
def embedded(spark_session, tmp_path_factory, row, home_class):
    """12 items with vectors of the tiny encoder; tests copy the folder."""
    import tiny_encoder

    home = home_class(tmp_path_factory.mktemp("embedded") / "home")
    rows = [row(i, home.picture(i), version="5") for i in range(ITEMS)]
    ingest(spark_session, home.settings, home.snapshot("first", rows, NOON), LogProgress())
    embed_job.embed(spark_session, home.settings, LogProgress(), tiny_encoder.open_tiny)
    return home.settings.home


@pytest.fixture
def tiny(spark_session):
    import tiny_encoder

    return tiny_encoder


class Stream:
    """Plays the streaming job: applies changes to states and archives each whole state."""

    def __init__(self, home, space: str, partition: int = 0) -> None:
        self.home, self.space, self.partition, self.offset = home, space, partition, 0
        self.states = {row["item_id"]: state_of_row(row) for row in home.tables.read(SILVER).to_pylist()}
        self.rows: list[dict] = []

    def publish(self, state: ItemState, vector=None, kind=ChangeKind.UPSERT, gap: int = 0) -> None:
        self.offset += gap
        self.states[state.item_id] = state
        vectors = [] if vector is None else [{"space": self.space, "vector": [float(each) for each in vector]}]
        self.rows.append(
            {"partition": self.partition, "offset": self.offset, "origin_offset": self.offset, "kind": kind,
             "item_id": state.item_id, "version": state.version, "event_time": AT, "published_at": AT,
             "state": state.to_json(), "vectors": vectors}
        )  # fmt: skip
        self.offset += 1

    def upsert(self, item_id: str, version: int, name: str, vector=None, **changed) -> None:
        columns = dict(next(iter(self.states.values())).columns) | {
            "title": f"{item_id} at {version}", "image_path": name, "content_hash": self.home.sha256(name),
        } | changed  # fmt: skip
        state = self.states.get(item_id, unknown_item(item_id))
        self.publish(state.upsert(version, columns, AT)[0], vector)

    def set(self, item_id: str, version: int, vector=None, **columns) -> None:
        self.publish(self.states[item_id].set_columns(version, columns, AT)[0], vector, ChangeKind.ATTRIBUTES)

    def delete(self, item_id: str, version: int) -> None:
        state = self.states.get(item_id, unknown_item(item_id))
        self.publish(state.set_deleted(version, True, AT)[0], None, ChangeKind.DELETE)

    def archive(self) -> None:
        self.home.tables.append(CHANGES, pa.Table.from_pylist(self.rows, schema=CHANGES.schema))
        self.rows = []


def unit(seed: int, dim: int = 16) -> np.ndarray:
    vector = np.random.default_rng(seed).standard_normal(dim).astype(np.float32)
    return vector / np.linalg.norm(vector)


def an_evening(home, space: str) -> Stream:
    """Every kind of change; the item ids say what becomes of them."""
    stream = Stream(home, space)
    new, unread = home.picture(100), home.picture(101)
    stream.upsert("fresh", 1, new, unit(1))
    stream.set("i0", 6, price=9.5)
    stream.set("i0", 7, stock=0)
    stream.upsert("i1", 6, unread, unit(2))
    stream.set("i1", 8, unit(2), tags=["sale"])
    stream.delete("i2", 6)
    stream.delete("never-described", 3)
    stream.upsert("nan", 1, new, np.full(16, np.nan))
    stream.upsert("long", 1, new, 2 * unit(3))
    stream.upsert("without", 1, unread)
    stream.archive()
    return stream


def states(home) -> dict[str, ItemState]:
    return {row["item_id"]: state_of_row(row) for row in home.tables.read(SILVER).to_pylist()}


def contents(home):
    return [home.tables.read(contract, order_by=", ".join(contract.key)) for contract in (SILVER, EMBEDDINGS)]


def run(session, home, tiny):
    return job.fold(session, home.settings, LogProgress(), tiny.open_tiny)


def test_an_evening_of_changes_is_in_the_tables_after_one_fold(spark_session, make_home, embedded, tiny):
    home = make_home(copy_of=embedded)
    encoder = tiny.TinyEncoder()
    space = encoder.space.fingerprint
    assert job.pending(home.settings) == 0
    stream = an_evening(home, space)
    assert job.pending(home.settings) == 10
    before = {row["item_id"]: row for row in home.tables.read(EMBEDDINGS).to_pylist()}
    report = run(spark_session, home, tiny)
    assert (report.changes, report.items, report.taken) == (10, 8, 7)
    assert (report.vectors, report.vectors_left, report.next_offsets) == (2, 2, {0: 10})
    expected = {item_id: state for item_id, state in stream.states.items() if state.described}
    assert states(home) == expected
    rows = {row["item_id"]: row for row in home.tables.read(SILVER).to_pylist()}
    assert {rows[item]["snapshot_id"] for item in ("fresh", "i1", "without")} == {"stream"}
    assert {rows[item]["snapshot_id"] for item in ("i0", "i2", "i3")} == {"first"}
    assert (rows["i0"]["price"], rows["i0"]["stock"], rows["i0"]["title"]) == (9.5, 0, "thing 0")
    assert dict(rows["i0"]["column_versions"]) == {"price": 6, "stock": 7}
    after = {row["item_id"]: row for row in home.tables.read(EMBEDDINGS).to_pylist()}
    assert after.keys() == before.keys() | {"fresh"}
    np.testing.assert_array_equal(np.float32(after["fresh"]["vector"]), unit(1))
    np.testing.assert_array_equal(np.float32(after["i1"]["vector"]), unit(2))
    assert (after["i1"]["content_hash"], after["i1"]["item_version"]) == (home.sha256("101.png"), 8)
    assert after["fresh"]["encoder_version"] == before["i0"]["encoder_version"]
    assert [after[item] for item in before if item != "i1"] == [before[item] for item in before if item != "i1"]

    assert job.pending(home.settings) == 0
    versions = home.versions()
    assert run(spark_session, home, tiny).changes == 0
    assert home.versions() == versions
    assert home.tables.count(FOLDS) == 1
    # What has no vector yet is embedded, and nothing else: one picture that was not read, one known by another's.
    assert embed_job.pending(home.settings, encoder.space) == 3
    embedded_now = embed_job.embed(spark_session, home.settings, LogProgress(), tiny.open_tiny)
    assert (embedded_now.embedded, embedded_now.reused, embedded_now.refused) == (0, 3, 0)


@pytest.mark.parametrize("dies_at", ["silver", "embeddings", "folds"])
def test_a_fold_killed_before_any_of_its_writes_is_finished_by_the_next(
    spark_session, make_home, embedded, tiny, monkeypatch, dies_at
):
    undisturbed, home = make_home("undisturbed", copy_of=embedded), make_home("killed", copy_of=embedded)
    space = tiny.TinyEncoder().space.fingerprint
    for each in (undisturbed, home):
        an_evening(each, space)
    run(spark_session, undisturbed, tiny)

    def die(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        module, name = {"silver": (registers, "merge_states"), "embeddings": (tables, "merge"),
                        "folds": (DeltaTables, "append")}[dies_at]  # fmt: skip
        patch.setattr(module, name, die)
        with pytest.raises(KeyboardInterrupt):
            run(spark_session, home, tiny)
    assert job.pending(home.settings) == 10
    run(spark_session, home, tiny)
    assert job.pending(home.settings) == 0
    assert contents(home) == contents(undisturbed)
    assert log_offsets(home.settings, *[home.tables.version(name) for name in ("silver", "embeddings")]) == {"0": 10}


def test_each_fold_takes_what_is_new_and_partitions_are_joined(spark_session, make_home, embedded, tiny):
    home = make_home(copy_of=embedded)
    space = tiny.TinyEncoder().space.fingerprint
    first, second = Stream(home, space), Stream(home, space, partition=1)
    first.set("i0", 6, price=1.0)
    first.archive()
    run(spark_session, home, tiny)
    pinned = [home.tables.version(name) for name in ("silver", "embeddings")]
    first.set("i0", 8, price=2.0)
    first.publish(first.states["i0"], gap=5)
    second.set("i0", 7, stock=44)  # as after a change of the number of partitions
    second.set("i5", 6, price=3.0)
    for stream in (first, second):
        stream.archive()
    assert job.pending(home.settings) == 4
    report = run(spark_session, home, tiny)
    assert (report.changes, report.items, report.next_offsets) == (4, 2, {0: 8, 1: 2})
    rows = {row["item_id"]: row for row in home.tables.read(SILVER).to_pylist()}
    assert (rows["i0"]["price"], rows["i0"]["stock"], rows["i5"]["price"]) == (2.0, 44, 3.0)
    now = [home.tables.version(name) for name in ("silver", "embeddings")]
    assert log_offsets(home.settings, *pinned) == {"0": 1}
    assert log_offsets(home.settings, *now) == {"0": 8, "1": 2}
    assert log_offsets(home.settings, now[0] - 1, now[1]) == {"0": 1}
    assert log_offsets(home.settings, 0, 0) == {}


def test_a_snapshot_and_the_stream_cannot_undo_each_other(spark_session, make_home, embedded, tiny, row):
    home = make_home(copy_of=embedded)
    stream = Stream(home, tiny.TinyEncoder().space.fingerprint)
    stream.set("i0", 6, price=9.5)
    stream.set("i1", 9, title="the stream's")
    stream.upsert("late", 1, home.picture(100))  # after the snapshot was made, which does not name it
    stream.delete("i3", 6)
    stream.archive()
    run(spark_session, home, tiny)
    named = [row(0, "0.png", version="6", title="the snapshot's", price="1.00"),
             row(1, "1.png", version="8", title="older", brand="other"),
             row(3, "3.png", version="5")]  # fmt: skip
    made = (AT - timedelta(hours=1)).isoformat()
    report = ingest(spark_session, home.settings, home.snapshot("second", named, made, complete=True), LogProgress())
    assert (report.taken, report.unchanged) == (2, 1)
    rows = {each["item_id"]: each for each in home.tables.read(SILVER).to_pylist()}
    assert (rows["i0"]["price"], rows["i0"]["title"], rows["i0"]["version"]) == (9.5, "the snapshot's", 6)
    assert (rows["i1"]["title"], rows["i1"]["brand"]) == ("the stream's", "other")
    assert (rows["i1"]["base_version"], dict(rows["i1"]["column_versions"])) == (8, {"title": 9})
    assert not rows["late"]["deleted"]
    assert rows["i3"]["deleted"], "an older row does not undo a delete"
    assert report.withdrawn == ITEMS - 3
    again = [row(0, "0.png", version="6"), row(3, "3.png", version="7")]
    third = home.snapshot("third", again, LATER, complete=True)
    assert ingest(spark_session, home.settings, third, LogProgress()).withdrawn == 2  # i1, late
    deleted = {each["item_id"] for each in home.tables.read(SILVER, where="deleted").to_pylist()}
    assert deleted == {f"i{i}" for i in range(ITEMS)} - {"i0", "i3"} | {"late"}


def test_a_delete_that_came_before_its_item_holds_against_older_rows(spark_session, make_home, embedded, tiny, row):
    home = make_home(copy_of=embedded)
    stream = Stream(home, tiny.TinyEncoder().space.fingerprint)
    for item_id in ("older", "newer"):
        stream.delete(item_id, 5)
        stream.delete(item_id, 6)
    stream.archive()
    assert run(spark_session, home, tiny).taken == 0
    rows = [row(50, "0.png", item_id="older", version="5"), row(51, "0.png", item_id="newer", version="7"),
            row(52, "0.png", item_id="other", version="1")]  # fmt: skip
    folder = home.snapshot("second", rows, LATER)
    assert ingest(spark_session, home.settings, folder, LogProgress()).taken == 3
    held = states(home)
    assert [held[item].deleted for item in ("older", "newer", "other")] == [True, False, False]
    assert held["older"] == ItemState("older", 5, held["older"].columns, {"deleted": 6}, True, AT)
    assert (held["newer"].version, held["newer"].column_versions) == (7, {})
    third = home.snapshot("third", [row(50, "0.png", item_id="older", version="8")], "2026-01-03T12:00:00+00:00")
    ingest(spark_session, home.settings, third, LogProgress())
    assert not states(home)["older"].deleted


def test_a_streamed_picture_that_vanished_is_refused_with_its_state_and_its_successor_is_embedded(
    spark_session, make_home, embedded, tiny
):
    home = make_home(copy_of=embedded)
    encoder = tiny.TinyEncoder()
    stream = Stream(home, encoder.space.fingerprint)
    stream.upsert("lost", 1, home.picture(100))
    stream.upsert("lost-too", 1, home.picture(101))
    stream.archive()
    run(spark_session, home, tiny)
    for name in ("100.png", "101.png"):
        (home.settings.pictures_root / name).unlink()
    for _ in range(2):
        report = embed_job.embed(spark_session, home.settings, LogProgress(), tiny.open_tiny)
        assert report.refused == 2
    refused = home.tables.read(REFUSED, order_by="item_id").to_pylist()
    assert [(each["item_id"], each["snapshot_id"], each["reason"], each["source"]) for each in refused] == [
        (item_id, "stream", "picture_missing", "shop") for item_id in ("lost", "lost-too")
    ]
    assert refused[0]["row_number"] != refused[1]["row_number"]
    assert ItemState.from_dict(json.loads(refused[0]["payload"])) == stream.states["lost"]
    assert embed_job.pending(home.settings, encoder.space) == 0
    stream.upsert("lost", 2, home.picture(102))
    stream.archive()
    run(spark_session, home, tiny)
    assert embed_job.pending(home.settings, encoder.space) == 1
    assert embed_job.embed(spark_session, home.settings, LogProgress(), tiny.open_tiny).embedded == 1
