"""Recorded changes by batch against the pure functions one by one, and against a fold of what those publish."""

import json
import random
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from lookalike.catalogue.changes import apply_change, parse_change
from lookalike.catalogue.intake import inspect_picture
from lookalike.contracts.change import CatalogueEvent, ChangeKind, partition_of
from lookalike.contracts.errors import NotFound
from lookalike.contracts.item_state import Outcome, state_of_row, unknown_item
from lookalike.contracts.product import Refusal
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.tables import CHANGES, REFUSED, SILVER
from spark import changes as job
from spark import registers
from spark.fold import fold
from spark.ingest import ingest

pytestmark = pytest.mark.slow

NOON = "2026-01-01T12:00:00+00:00"
START = datetime(2026, 1, 1, 18, tzinfo=UTC)
PARTITIONS = 2
ITEMS = 20
EVENTS = 200


@pytest.fixture(scope="module")
def ingested(spark_session, tmp_path_factory, row, home_class):
    """20 items at version 5, one of them withdrawn; tests copy the folder."""
    home = home_class(tmp_path_factory.mktemp("catalogue") / "home")
    rows = [row(i, home.picture(i), version="5") for i in range(ITEMS)]
    for name, named, at in (("a", rows, NOON), ("b", rows[:-1], "2026-01-01T13:00:00+00:00")):
        ingest(spark_session, home.settings, home.snapshot(name, named, at, complete=True), LogProgress())
    for i in range(100, 110):
        home.picture(i)
    (home.settings.pictures_root / "broken.png").write_bytes(b"\x89PNG broken")
    return home.settings.home


def event(kind: str, item_id: str, version: int, number: int, **body) -> dict:
    at = START + timedelta(seconds=number)
    return {"schema": 1, "kind": kind, "item_id": item_id, "version": version, "event_time": at.isoformat(),
            "source": f"till {number % 3}", **body}  # fmt: skip


def product(number: int, picture: str) -> dict:
    return {"title": f"thing at {number}", "image_path": picture, "price": number / 4, "attributes": {"size": "L"},
            "keywords": {"de": ["Ding"]}, "tags": ["new"]}  # fmt: skip


def random_evening(seed: int) -> list[dict]:
    """200 events of all kinds on known, new, withdrawn and unknown items, versions in any order."""
    generator = random.Random(seed)
    known = [f"i{i}" for i in range(ITEMS)]
    events = []
    for number in range(EVENTS):
        item_id = generator.choice([*known, *(f"n{i}" for i in range(8)), "nobody"])
        version = generator.randint(3, 14)
        kind = generator.choice(["upsert", "attributes", "attributes", "delete", "restore"])
        if item_id == "nobody" and kind in ("upsert", "delete"):
            kind = "attributes"
        body: dict = {}
        if kind == "upsert":
            pictures = [*(f"{i}.png" for i in range(100, 110)), *["broken.png", "nowhere.png"] * 2]
            body = {"product": product(number, generator.choice(pictures))}
        if kind == "attributes":
            choice = {
                "price": number / 8,
                "stock": number,
                "tags": ["sale"],
                "brand": None,
                "title": f"patched {number}",
            }
            body = {"columns": dict(generator.sample(sorted(choice.items(), key=lambda each: each[0]), 2))}
        events.append(event(kind, item_id, version, number, **body))
    return events


def recorded(events) -> list[dict]:
    """Records as the log would hold them: two partitions by item, offsets with gaps."""
    offsets = dict.fromkeys(range(PARTITIONS), 0)
    records = []
    for number, each in enumerate(events):
        key = each["item_id"].encode() if isinstance(each, dict) else b"?"
        partition = partition_of(key, PARTITIONS)
        value = json.dumps(each) if isinstance(each, dict) else each
        at = int((START + timedelta(seconds=number)).timestamp() * 1000)
        records.append({"partition": partition, "offset": offsets[partition], "appended_ms": at, "value": value})
        offsets[partition] += 1 + number % 3
    return records


def write(home, records, name="evening.jsonl"):
    path = home.settings.home / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def picture_of(home, change):
    """The upsert's picture, or the reason against it."""
    if change.kind is not ChangeKind.UPSERT:
        return None
    path = home.settings.pictures_root / change.product.image_path
    found = inspect_picture(path.read_bytes(), home.settings.intake) if path.exists() else None
    return "picture_missing" if found is None else found.reason.value if isinstance(found, Refusal) else found


def stream(home, records):
    """A naive stream: one record after the other, parked ones at the end. States, messages, refusals by place."""
    rows = {row["item_id"]: state_of_row(row) for row in home.tables.read(SILVER).to_pylist()}
    states = {item_id: state for item_id, state in rows.items() if not state.deleted}
    published, refused, parked = [], {}, []
    lanes = [(record, False) for record in records]
    while lanes:
        for record, again in lanes:
            place = (record["partition"], record["offset"])
            change = parse_change(record["value"].encode(), record["appended_ms"], home.settings.intake)
            if not isinstance(change, CatalogueEvent):
                refused[place] = change.reason.value
                continue
            state = states.get(change.item_id, unknown_item(change.item_id))
            if change.kind in (ChangeKind.ATTRIBUTES, ChangeKind.RESTORE) and not state.described:
                if again and change.item_id in rows:
                    state = state.merge(rows[change.item_id])
                elif again:
                    refused[place] = "unknown_item"
                    continue
                else:
                    parked.append((record, True))
                    continue
            old = change.kind is ChangeKind.UPSERT and change.version <= state.base_version
            picture = None if old else picture_of(home, change)
            if isinstance(picture, str):
                refused[place] = picture
                continue
            same = Outcome.REPEATED if change.version == state.base_version else Outcome.BEHIND
            after, outcome = (state, same) if old else apply_change(state, change, picture)
            if outcome is Outcome.BEHIND and not again:
                refused[place] = "version_behind"
            if outcome is Outcome.CHANGED:
                states[change.item_id] = after
                published.append((record, change, after))
        lanes, parked = parked, []
    return states, published, refused


def archive(home, published) -> None:
    offsets = dict.fromkeys(range(PARTITIONS), 0)
    rows = []
    for record, change, state in published:
        partition = record["partition"]
        rows.append(
            {"partition": partition, "offset": offsets[partition], "origin_offset": record["offset"],
             "item_id": state.item_id, "version": state.version, "kind": change.kind, "event_time": change.event_time,
             "published_at": START, "state": state.to_json(), "vectors": []}
        )  # fmt: skip
        offsets[partition] += 1
    home.tables.append(CHANGES, pa.Table.from_pylist(rows, schema=CHANGES.schema))


def run(session, home, path):
    return job.ingest_changes(session, home.settings, path, LogProgress())


def silver(home) -> pa.Table:
    return home.tables.read(SILVER, order_by="item_id")


def test_batch_and_stream_make_the_same_of_the_same_events(spark_session, make_home, ingested):
    batch, streamed = make_home("batch", copy_of=ingested), make_home("streamed", copy_of=ingested)
    records = recorded(random_evening(4))
    states, published, refused = stream(streamed, records)
    assert set(refused.values()) >= {"version_behind", "unknown_item", "picture_missing", "picture_unreadable"}
    before = states_of(streamed)
    archive(streamed, published)
    fold(spark_session, streamed.settings, LogProgress())
    path = write(batch, random.Random(1).sample(records, len(records)))
    assert not job.is_done(batch.settings, path)
    report = run(spark_session, batch, path)
    assert silver(batch) == silver(streamed)
    expected = before | {
        item_id: before[item_id].merge(state) if item_id in before else state
        for item_id, state in states.items()
        if state.described or item_id in before
    }
    assert states_of(batch) == expected
    found = {
        (int(row["snapshot_id"].removeprefix("catalogue-changes-")), row["row_number"]): row["reason"]
        for row in batch.tables.read(REFUSED).to_pylist()
    }
    assert found == refused
    assert report.received == EVENTS == report.taken + report.repeated + report.overtaken + sum(report.refused.values())
    assert report.taken == len(published)
    assert job.is_done(batch.settings, path)


def states_of(home):
    return {row["item_id"]: state_of_row(row) for row in home.tables.read(SILVER).to_pylist()}


def test_a_job_killed_before_either_write_judges_alike_when_run_again(spark_session, make_home, ingested, monkeypatch):
    undisturbed, killed = make_home("undisturbed", copy_of=ingested), make_home("killed", copy_of=ingested)
    records = recorded(random_evening(5))
    run(spark_session, undisturbed, write(undisturbed, records))
    path = write(killed, records)

    def die(*_, **__):
        raise KeyboardInterrupt

    for module, name in ((job.tables, "append_once"), (registers, "merge_states")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, die)
            with pytest.raises(KeyboardInterrupt):
                run(spark_session, killed, path)
        assert not job.is_done(killed.settings, path)
    run(spark_session, killed, path)
    assert silver(killed) == silver(undisturbed)
    kept = [name for name in REFUSED.schema.names if name != "refused_at"]
    order = "snapshot_id, row_number"
    expected = undisturbed.tables.read(REFUSED, kept, order_by=order)
    assert killed.tables.read(REFUSED, kept, order_by=order) == expected
    # A second time all of it is behind or repeated. The commits of the first time have the file's name.
    run(spark_session, killed, path)
    assert silver(killed) == silver(undisturbed)
    assert killed.tables.read(REFUSED, kept, order_by=order) == expected


def test_bad_records_are_refused_as_the_stream_refuses_them(spark_session, make_home, ingested):
    home = make_home(copy_of=ingested)
    foreign = recorded([event("delete", "i0", 9, 0)])[0]
    bad = [
        "not JSON",
        event("upsert", "i1", 9, 1) | {"schema": 99},
        event("attributes", "i2", 9, 2, columns={"price": -1}),
        event("restore", "i19", 9, 3),  # withdrawn: not in the release, found in SILVER
    ]
    records = recorded(bad)
    records.append(foreign | {"partition": 1 - foreign["partition"], "offset": 70})
    records.append({"partition": 0, "offset": 71, "appended_ms": 0, "value": "base64://///w=="})
    report = run(spark_session, home, write(home, records))
    assert report.refused == {"bad_price": 1, "malformed": 3, "schema_version": 1}
    assert (report.taken, states_of(home)["i19"].deleted, states_of(home)["i0"].deleted) == (1, False, False)
    payloads = {row["row_number"]: row["payload"] for row in home.tables.read(REFUSED).to_pylist()}
    assert payloads[71] == "base64://///w=="


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"partition": 0}', '{"partition":0,"offset":1,"appended_ms":1,"value":2}']
)
def test_a_file_in_another_format_is_named_with_its_line(make_home, line):
    home = make_home()
    good = json.dumps(recorded([event("delete", "i0", 9, 0)])[0])
    path = home.settings.home / "records.jsonl"
    path.write_text(f"{good}\n\n{line}\n")
    with pytest.raises(job.BadRecords, match="line 3"):
        job.is_done(home.settings, path)
    with pytest.raises(NotFound, match=r"nothing\.jsonl"):
        job.is_done(home.settings, path.with_name("nothing.jsonl"))
