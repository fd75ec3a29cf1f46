"""From the log into the tables: each message once, wherever it breaks off; what expired; strange messages."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from lookalike.contracts.change import Topic
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.tables import CLICKS, IMPRESSIONS, ONLINE_REPORT
from lookalike.contracts.vector_update import UnknownSchema
from lookalike.line import feedback as feedback_line
from lookalike.line.feedback import DayNotBegun, FeedbackLogReplaced, feedback
from lookalike.storage.delta import DeltaTables
from lookalike.storage.log.port import Message
from lookalike.storage.log.sqlite import SqliteLog

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


def some(day, number=30):
    shown = [day.shown(NOON + timedelta(seconds=second), ["a", "b"]) for second in range(number)]
    return [message for one in shown for message in (one, day.click(one, "b"))]


def contents(day):
    """Rows of all three tables in a fixed order."""
    orders = ((IMPRESSIONS, '"partition", "offset"'), (CLICKS, '"partition", "offset"'), (ONLINE_REPORT, "release"))
    return {each.name: day.tables.read(each, order_by=order).to_pylist() for each, order in orders}


def test_what_was_sent_is_in_the_tables_once(day):
    messages = some(day)
    day.send(*messages)
    for _ in range(2):
        day.report(NOON)
    assert day.done.archived.impressions == day.done.archived.clicks == 0
    shown = {row["search_id"]: row for row in contents(day)["impressions"]}
    assert len(shown) == 30 == day.tables.count(IMPRESSIONS) == day.tables.count(CLICKS)
    for each in messages[::2]:
        row = shown[each.search_id]
        assert (row["release"], row["query_kind"], tuple(row["items"])) == ("1", "words", ("a", "b"))
        assert row["day"] == NOON.date() and row["at"].timestamp() * 1000 == int(each.search_id[:12], 16)


def test_broken_off_before_any_write_it_ends_with_the_same_rows(day, monkeypatch):
    monkeypatch.setattr(feedback_line, "COMMIT_RECORDS", 3)
    monkeypatch.setattr(feedback_line, "READ_RECORDS", 3)
    day.send(*some(day, 8))
    append, left, breaks = DeltaTables.append, 0, 0

    class Break(Exception):
        pass

    def failing(self, *arguments):
        nonlocal left
        if left == 0:
            raise Break
        left -= 1
        return append(self, *arguments)

    monkeypatch.setattr(DeltaTables, "append", failing)
    while True:
        left = 1  # every run gets one commit further, then breaks off before the next
        try:
            day.report(NOON)
            break
        except Break:
            breaks += 1
            monkeypatch.setattr(feedback_line, "COMMIT_RECORDS", 6 if breaks % 2 else 3)  # other commits than before
    monkeypatch.setattr(DeltaTables, "append", append)
    assert breaks > 2
    assert len(contents(day)["impressions"]) == len(contents(day)["clicks"]) == 8
    (row,) = contents(day)["online_report"]
    assert (row["impressions"], row["clicks"], row["revision"]) == (8, 8, 1)


def test_more_than_a_commit_holds_comes_whole(day, monkeypatch):
    monkeypatch.setattr(feedback_line, "COMMIT_BYTES", 2_000)
    day.send(*some(day, 50))
    assert day.report(NOON)["1", "words"]["clicks"] == 50


def test_what_expired_is_counted_and_the_rest_comes(day):
    day.send(*some(day, 10))
    day.log.expire(int((datetime.now(UTC) + timedelta(days=365 * 200)).timestamp() * 1000))
    day.send(*some(day, 3))
    assert day.report(NOON)["1", "words"]["impressions"] == 3
    assert day.done.archived.expired == 20


def test_a_replaced_log_is_an_error_and_not_silence(day):
    day.send(*some(day, 10))
    day.report(NOON)
    day.log.close()
    for path in day.settings.log_path.parent.glob("log.db*"):
        path.unlink()
    day.log = SqliteLog(day.settings.log_path, day.settings.log.partitions, 1e6)
    with pytest.raises(FeedbackLogReplaced, match="the log ends at 0"):
        day.report(NOON)


def test_strange_messages_are_counted_and_a_newer_schema_stops(day):
    good = day.shown(NOON, ["a"])
    strange = [b"", b"[]", b"{}", b'{"schema": 1, "kind": "other"}', good.encode().replace(b'"words"', b'"smell"')]
    day.log.append(Topic.FEEDBACK, [Message(b"key", value) for value in strange])
    day.send(good)
    assert day.report(NOON)["1", "words"]["impressions"] == 1
    assert day.done.archived.unreadable == len(strange)
    newer = json.loads(good.encode()) | {"schema": 2}
    day.log.append(Topic.FEEDBACK, [Message(b"key", json.dumps(newer).encode())])
    with pytest.raises(UnknownSchema, match="schema 2"):
        day.report(NOON)


def test_looking_makes_no_log_and_a_day_to_come_is_refused(day, tmp_path):
    elsewhere = day.settings.model_copy(update={"home": tmp_path / "elsewhere"})
    done = feedback(elsewhere, NOON.date(), LogProgress(), NOON)
    assert done.archived.impressions == 0 and not elsewhere.log_path.exists()
    with pytest.raises(DayNotBegun, match="2026-03-11 has not begun"):
        feedback(elsewhere, NOON.date() + timedelta(days=1), LogProgress(), NOON)
