"""Changes by hand and from files against a real embedded log, and refused rows against real Delta tables."""

import hashlib
import io
import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from lookalike.catalogue.changes import parse_change
from lookalike.catalogue.refused_rows import refused_change, refused_table
from lookalike.cli.changes import register
from lookalike.cli.console import Console
from lookalike.contracts.change import ChangeKind, Position, Topic, decode_token, partition_of
from lookalike.contracts.errors import NotFound
from lookalike.contracts.product import Refusal, RefusalReason
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import IntakeSettings, LogSettings, Settings
from lookalike.contracts.tables import REFUSED, REPLAYS
from lookalike.line import changes, refused
from lookalike.line.changes import ChangeRefused, parse_assignments, send_change, send_lines
from lookalike.line.refused import Choice, NothingChosen, list_refused, replay
from lookalike.storage.delta import DeltaTables
from lookalike.storage.log.opening import open_log

AT = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
LIMITS = IntakeSettings()


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(home=tmp_path / "home", log=LogSettings(partitions=2))


@pytest.fixture
def command(settings):
    """command("change", "delete", "x") -> the result of the verb, as its JSON."""
    app = typer.Typer()
    register(app)

    def run(*arguments, stdin=None):
        done = CliRunner().invoke(app, list(arguments), obj=Console(settings, True), input=stdin)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    return run


def logged(settings, topic=Topic.CHANGES):
    """All records of a topic, by place."""
    log = open_log(settings)
    try:
        return {
            (partition, record.offset): record
            for partition in range(log.partitions)
            for record in log.read(topic, partition, 0, 100_000)
        }
    finally:
        log.close()


def at_token(settings, token):
    """The one event that a token points to, as the job will read it."""
    ((partition, offset),) = decode_token(token).items()
    record = logged(settings)[partition, offset]
    event = parse_change(record.value, record.appended_ms, LIMITS)
    assert record.key == event.item_id.encode()
    assert partition == partition_of(record.key, 2)
    return event


def test_set_sends_what_was_written(settings, command):
    before = datetime.now(UTC)
    attributes = 'attributes={"size": 4}'
    sent = command("change", "set", "a:1", "price=9.50", "stock=0", "tags=a, b", "brand=", attributes)
    event = at_token(settings, sent["token"])
    assert (event.kind, event.item_id, event.source) == (ChangeKind.ATTRIBUTES, "a:1", "command-line")
    assert event.columns == {
        "price": 9.5, "stock": 0, "tags": ("a", "b"), "brand": None, "attributes": {"size": "4"},
    }  # fmt: skip
    assert abs(event.event_time - before) < timedelta(seconds=30)
    assert event.version == round(event.event_time.timestamp() * 1_000)


def test_delete_and_restore_with_a_version_of_their_own(settings, command):
    gone = at_token(settings, command("change", "delete", "a:1", "--version", "17", "--source", "shop")["token"])
    assert (gone.kind, gone.version, gone.source) == (ChangeKind.DELETE, 17, "shop")
    back = at_token(settings, command("change", "restore", "a:1", "--version", "18")["token"])
    assert (back.kind, back.version) == (ChangeKind.RESTORE, 18)


def test_upsert_keeps_a_local_picture_in_the_store(settings, command, tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (1, 2, 3)).save(buffer, "PNG")
    (tmp_path / "red apple.png").write_bytes(buffer.getvalue())
    sent = command(
        "change", "upsert", "a:1", "price=3", "--picture", str(tmp_path / "red apple.png"), "--title", "red apple",
        "--brand", "Acme",
    )  # fmt: skip
    (tmp_path / "red apple.png").unlink()
    product = at_token(settings, sent["token"]).product
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    assert product.image_path == f"{digest[:2]}/{digest}.png"
    assert (settings.pictures_root / product.image_path).read_bytes() == buffer.getvalue()
    assert (product.title, product.brand, product.price) == ("red apple", "Acme", 3.0)
    sent = command("change", "upsert", "a:2", "--picture", "https://shop.example/x.png", "--title", "x")
    assert at_token(settings, sent["token"]).product.image_path == "https://shop.example/x.png"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["change", "set", "a", "price=free"], ["price = 'free'", "not sent"]),
        (["change", "set", "a", "price"], ["COLUMN=VALUE"]),
        (["change", "set", "a", "price=1", "price=2"], ["price is given twice"]),
        (["change", "set", "a", "image_path=x"], ["image_path", "upsert"]),
        (["change", "set", "a", "attributes={"], ["attributes={", "JSON"]),
        (["change", "set", "a", "brand=\udcff"], ["brand"]),
        (["change", "set", "", "price=1"], ["item_id"]),
        (["change", "delete", "a", "--version", str(10**15)], ["future"]),
        (["change", "upsert", "a", "--picture", "/nowhere/x.png", "--title", "x"], ["/nowhere/x.png"]),
        (["change", "upsert", "a", "--picture", __file__, "--title", "x"], ["allowed format"]),
        (["change", "send", "/nowhere/x.jsonl"], ["/nowhere/x.jsonl"]),
        (["refused", "replay"], ["--reason", "--all"]),
    ],
)
def test_wrong_use_is_explained_and_sends_nothing(settings, command, arguments, words):
    with pytest.raises((ChangeRefused, NotFound, NothingChosen)) as caught:
        command(*arguments)
    for word in words:
        assert word in str(caught.value)
    assert logged(settings) == {}


def test_assignments_are_split_at_the_first_sign_only():
    assert parse_assignments(["author_url=https://x/?a=b", 'tags=["a,b"]']) == {
        "author_url": "https://x/?a=b", "tags": ["a,b"],
    }  # fmt: skip


def lines_of(count):
    head = {"schema": 1, "kind": "delete", "event_time": "2026-11-20T10:00:00Z", "source": "shop"}
    return [json.dumps(head | {"item_id": f"i{n % 40}", "version": n}).encode() for n in range(count)]


def test_a_file_goes_to_the_log_line_by_line_good_and_bad(settings, command, tmp_path):
    bad = [b"{not json", b'{"schema": 9, "item_id": "i1"}', b"\xff\xfe"]
    lines = [*lines_of(700), b"", *bad, b"   ", *lines_of(600)]
    (tmp_path / "x.jsonl").write_bytes(b"\r\n".join(lines))
    sent = command("change", "send", str(tmp_path / "x.jsonl"))
    given = [line for line in lines if line.strip()]
    assert (sent["sent"], sent["refusable"], len(given)) == (1_303, 3, 1_303)
    assert sent["first_problem"].startswith("line 702: the change is not JSON")
    records = logged(settings)
    assert sorted(record.value for record in records.values()) == sorted(given)
    for item in (f"i{n}" for n in range(40)):  # the order of one item's changes is kept
        mine = [
            json.loads(value)["version"] for value in given if b'"%s"' % item.encode() in value and b"kind" in value
        ]
        kept = [json.loads(r.value).get("version") for r in records.values() if r.key == item.encode()]
        assert [version for version in kept if version is not None] == mine
    assert decode_token(sent["token"]) == {
        partition: max(offset for p, offset in records if p == partition) for partition in (0, 1)
    }


def test_changes_come_from_standard_input_too(settings, command):
    assert command("change", "send", "-", stdin=b"\n".join(lines_of(3)))["sent"] == 3
    assert command("change", "send", "-", stdin=b"")["token"] == ""
    assert len(logged(settings)) == 3


def test_a_line_that_no_log_can_take_stops_the_file_and_says_where(settings, tmp_path):
    (tmp_path / "x.jsonl").write_bytes(lines_of(1)[0] + b"\n" + b"x" * 5 * 2**20 + b"\n" + lines_of(1)[0])
    with pytest.raises(ChangeRefused, match="line 2 has"):
        send_lines(settings, changes.read_lines(tmp_path / "x.jsonl"), LogProgress())
    assert len(logged(settings)) == 1


def refuse(settings, *rows):
    DeltaTables(settings.tables_root).append(REFUSED, pa.concat_tables(rows))


def of_snapshot(row_number, payload, item_id="s:1", reason="bad_price", at=AT):
    row = {
        "snapshot_id": "icons-1", "row_number": row_number, "source": "icons", "item_id": item_id, "reason": reason,
        "detail": "price = 'free'", "refused_at": at, "payload": payload,
    }  # fmt: skip
    return pa.Table.from_pylist([row], schema=REFUSED.schema)


def of_stream(offset, payload, item_id="a:1", reason=RefusalReason.PICTURE_UNAVAILABLE, at=AT):
    return refused_table([refused_change(Refusal(reason, "503", item_id), Position(1, offset), payload, at, "shop")])


STREAMED = lines_of(3)
ROW = {"item_id": "s:1", "version": 7, "title": "t", "image_path": "x.png", "price": "1", "tags": ["a"]}


@pytest.fixture
def some_refused(settings):
    refuse(
        settings,
        of_stream(4, STREAMED[0], "i0"),
        of_stream(5, b"\xff\xfe", None, RefusalReason.MALFORMED, AT + timedelta(hours=1)),
        of_snapshot(3, json.dumps(ROW), at=AT + timedelta(hours=2)),
        of_snapshot(4, "{no json", None, "malformed", AT + timedelta(hours=3)),
    )


def test_refused_rows_are_listed_newest_first_and_by_choice(settings, command, some_refused):
    refuse(settings, of_stream(4, STREAMED[0], "i0"))  # told twice by a worker that was killed
    rows = command("refused", "list")
    assert [(row["snapshot_id"], row["row_number"]) for row in rows] == [
        ("icons-1", 4), ("icons-1", 3), ("catalogue-changes-1", 5), ("catalogue-changes-1", 4),
    ]  # fmt: skip
    assert rows[1] | {"refused_at": None} == {
        "snapshot_id": "icons-1", "row_number": 3, "source": "icons", "item_id": "s:1", "reason": "bad_price",
        "detail": "price = 'free'", "refused_at": None, "replayed_at": None,
    }  # fmt: skip
    assert [row["row_number"] for row in command("refused", "list", "--limit", "2")] == [4, 3]
    assert [row["row_number"] for row in command("refused", "list", "--reason", "malformed")] == [4, 5]
    assert [row["row_number"] for row in command("refused", "list", "--item", "i0")] == [4]
    assert [row["row_number"] for row in command("refused", "list", "--since", "2026-11-23T11:30Z")] == [4, 3]
    assert [row["row_number"] for row in command("refused", "list", "--since", "2026-11-23T13:30+02:00")] == [4, 3]
    assert command("refused", "list", "--item", "it's; DROP TABLE") == []


def test_without_a_table_nothing_was_refused(settings, command):
    assert command("refused", "list") == []
    assert command("refused", "replay", "--all")["sent"] == 0


def test_a_replay_sends_each_chosen_row_once_and_records_it(settings, command, some_refused):
    done = command("refused", "replay", "--all")
    assert (done["sent"], done["already"], done["unusable"]) == (3, 0, 1)
    assert "row 4 of icons-1" in done["first_problem"]
    values = {record.value: record for record in logged(settings).values()}
    assert STREAMED[0] in values
    assert b"\xff\xfe" in values
    (upsert,) = set(values) - {STREAMED[0], b"\xff\xfe"}
    event = parse_change(upsert, values[upsert].appended_ms, LIMITS)
    assert (event.kind, event.item_id, event.version, event.source) == (ChangeKind.UPSERT, "s:1", 7, "icons")
    assert (event.product.title, event.product.price, event.product.tags) == ("t", 1.0, ("a",))
    rows = DeltaTables(settings.tables_root).read(REPLAYS).to_pylist()
    assert {(row["snapshot_id"], row["row_number"]) for row in rows} == {
        ("catalogue-changes-1", 4), ("catalogue-changes-1", 5), ("icons-1", 3),
    }  # fmt: skip
    places = {(row["partition"], row["offset"]) for row in rows}
    assert places == set(logged(settings))
    again = command("refused", "replay", "--all")
    assert (again["sent"], again["already"]) == (0, 3)
    assert len(logged(settings)) == 3
    assert sum(row["replayed_at"] is not None for row in command("refused", "list")) == 3


def test_a_replay_by_choice_leaves_the_rest(settings, command, some_refused):
    assert command("refused", "replay", "--reason", "bad_price")["sent"] == 1
    assert command("refused", "replay", "--item", "i0")["sent"] == 1
    assert len(logged(settings)) == 2


def test_a_replay_that_is_killed_between_log_and_record_repeats_the_same_changes(settings, some_refused, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(DeltaTables, "append", killed)
        with pytest.raises(Killed):
            replay(settings, Choice(), True, LogProgress())
    first = [record.value for record in logged(settings).values()]
    assert len(first) == 3
    assert replay(settings, Choice(), True, LogProgress()).sent == 3
    events = [parse_change(value, 2**45, LIMITS) for value in (r.value for r in logged(settings).values())]
    versions = {(e.item_id, e.version) for e in events if not isinstance(e, Refusal)}
    assert versions == {("i0", 0), ("s:1", 7)}  # sent twice with the version they had: the job knows the repeat
    assert replay(settings, Choice(), True, LogProgress()).sent == 0


def test_many_rows_are_replayed_in_batches_in_their_order(settings, monkeypatch):
    monkeypatch.setattr(refused, "BATCH_ROWS", 7)
    lines = lines_of(40)
    refuse(settings, *(of_stream(n, line, f"i{n}", at=AT + timedelta(seconds=n)) for n, line in enumerate(lines)))
    appended = []
    real = DeltaTables.append
    monkeypatch.setattr(DeltaTables, "append", lambda self, *a: (appended.append(a[1].num_rows), real(self, *a)))
    assert replay(settings, Choice(), True, LogProgress()).sent == 40
    assert appended == [7, 7, 7, 7, 7, 5]
    records = logged(settings)
    for partition in (0, 1):
        mine = [line for line in lines if partition_of(json.loads(line)["item_id"].encode(), 2) == partition]
        assert [record.value for place, record in records.items() if place[0] == partition] == mine


def test_a_payload_that_stayed_in_the_log_is_replayed_from_there(settings):
    large = json.dumps({"schema": 1, "item_id": "big", "kind": "delete", "x": "y" * 2_000_000}).encode()
    sent = send_lines(settings, [large], LogProgress())
    ((partition, offset),) = decode_token(sent.token).items()
    refusal = Refusal(RefusalReason.BAD_VALUE, "too large", None)
    there = refused_change(refusal, Position(partition, offset), large, AT)
    gone = refused_change(refusal, Position(partition, offset + 50), large, AT)
    refuse(settings, refused_table([there, gone]))
    done = replay(settings, Choice(), True, LogProgress())
    assert (done.sent, done.unusable) == (1, 1)
    assert "expired" in done.first_problem
    assert [record.value for record in logged(settings).values()] == [large, large]


def test_a_new_key_is_random_and_comes_with_its_hash(command):
    first, second = command("keys", "new"), command("keys", "new")
    assert first["key"] != second["key"]
    assert len(first["key"]) >= 43
    assert first["sha256"] == hashlib.sha256(first["key"].encode()).hexdigest()


def test_people_get_a_line_with_the_token(settings):
    app = typer.Typer()
    register(app)
    done = CliRunner().invoke(app, ["change", "delete", "a:1"], obj=Console(settings, False))
    token = done.stdout.rpartition("token ")[2].strip()
    assert at_token(settings, token).kind is ChangeKind.DELETE


def test_a_change_by_hand_is_checked_like_any_other(settings):
    with pytest.raises(ChangeRefused, match="source is missing"):
        send_change(settings, ChangeKind.DELETE, "a", {}, None, " ")
    assert list_refused(settings, Choice(), 5) == []
