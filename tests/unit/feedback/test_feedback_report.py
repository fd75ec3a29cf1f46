"""The join and its counts: by hand, against a loop over random days, at the edges of the day, in slices, again."""

import math
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest

from lookalike.contracts.feedback import Click, Impression, new_search_id
from lookalike.contracts.tables import ONLINE_REPORT
from lookalike.line import feedback_report
from lookalike.line.feedback_report import latest_report

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def test_a_day_counted_by_hand(day):
    first = day.shown(NOON, ["a", "b", "c"])
    second = day.shown(NOON, ["a", "b", "c", "d"])
    third = day.shown(NOON, [], kind="picture")
    unseen = day.shown(NOON, ["a"])
    day.send(first, second, third)
    day.send(
        day.click(first, "c", 2 * MINUTE),
        day.click(first, "b", 3 * MINUTE),
        day.click(first, "c", 4 * MINUTE),  # again
        day.click(second, "d"),
        day.click(second, "d", event="cart"),
        day.click(second, "d", event="purchase"),
        day.click(second, "zebra"),  # was not shown
        day.click(second, "a", 25 * HOUR),  # too late
        day.click(unseen, "a"),  # its impression never came
    )
    rows = day.report(NOON)
    assert set(rows) == {("1", "words"), ("1", "picture"), ("unknown", "unknown")}
    words = rows["1", "words"]
    assert (words["impressions"], words["clicked"], words["ctr"]) == (2, 2, 1.0)
    assert words["mrr_first_click"] == pytest.approx((1 / 3 + 1 / 4) / 2)  # first's first click was on c
    assert (words["clicks"], words["carts"], words["purchases"]) == (3, 1, 1)
    assert words["shown_at"] == [2, 2, 2, 1, 0, 0, 0, 0, 0, 0]
    assert words["clicked_at"] == [0, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert words["ctr_at"] == [0.0, 0.5, 0.5, 1.0] + [None] * 6
    assert (words["not_shown"], words["late"], words["repeated"], words["orphan_clicks"]) == (1, 1, 1, 0)
    picture = rows["1", "picture"]
    assert (picture["impressions"], picture["clicked"], picture["ctr"], picture["mrr_first_click"]) == (1, 0, 0.0, None)
    assert rows["unknown", "unknown"]["orphan_clicks"] == 1
    assert rows["unknown", "unknown"]["impressions"] == 0 and rows["unknown", "unknown"]["ctr"] is None


def test_a_click_after_midnight_belongs_to_the_day_of_its_search(day):
    evening = day.shown(datetime(2026, 3, 10, 23, 59, 59, 999_000, tzinfo=UTC), ["a"])
    midnight = day.shown(datetime(2026, 3, 11, tzinfo=UTC), ["a"])
    day.send(evening, midnight, day.click(evening, "a", HOUR), day.click(midnight, "a", 24 * HOUR))
    rows = day.report(NOON + timedelta(days=1))
    assert rows["1", "words"]["impressions"] == rows["1", "words"]["clicks"] == 1  # exactly 24 h still counts
    (before,) = day.done.reports[0].rows
    assert (before["day"], before["impressions"], before["clicks"]) == (NOON.date(), 1, 1)


def test_a_click_by_a_clock_that_lags_counts_though_it_comes_before_its_search(day):
    midnight = day.shown(datetime(2026, 3, 10, tzinfo=UTC), ["a"])
    day.send(day.click(midnight, "a", -MINUTE), midnight)  # also in the log it comes first
    assert day.report(NOON)["1", "words"]["clicks"] == 1


def test_positions_of_a_second_page_go_on_from_the_first(day):
    shown = day.shown(NOON, ["i", "j", "k"], start=8)
    day.send(shown, day.click(shown, "k"))
    row = day.report(NOON)["1", "words"]
    assert row["shown_at"] == [0] * 8 + [1, 1] and row["clicked_at"] == [0] * 10  # k is at position 11
    assert row["mrr_first_click"] == pytest.approx(1 / 11) and row["clicks"] == 1


def random_day(day, seed):
    """Impressions and clicks with every flaw, in random order."""
    draw = random.Random(seed)
    shown = [
        day.shown(
            NOON.replace(hour=0) + timedelta(seconds=draw.uniform(0, 86_399)),
            draw.sample("abcdefghijklmnopqrst", draw.randint(0, 14)),
            draw.choice(["1", "2"]),
            draw.choice(["words", "picture", "item", "mixed"]),
            draw.choice([0, 0, 5]),
        )
        for _ in range(400)
    ]
    messages = shown[:-20] + draw.sample(shown, 20)  # the last are lost, some come twice
    for _ in range(600):
        one = draw.choice(shown)
        item = draw.choice(one.items) if one.items and draw.random() < 0.8 else "zebra"
        after = timedelta(seconds=draw.choice([draw.randint(0, 300), 86_000, 86_400, 86_401, 100_000]))
        messages.append(day.click(one, item, after, draw.choice(["click", "click", "cart", "purchase"])))
    draw.shuffle(messages)
    return messages


def counted_in_a_loop(messages, positions):
    """What the report shall say, the slow and plain way."""
    shown, seen, first = {}, set(), {}
    for each in messages:
        if isinstance(each, Impression):
            shown.setdefault(each.search_id, each)
    groups = defaultdict(lambda: defaultdict(int))
    for each in shown.values():
        group = groups[each.release, each.query_kind]
        group["impressions"] += 1
        for number in range(len(each.items)):
            group["shown", each.start + number + 1] += 1
    clicks = [(each.at, *positions[place], each) for place, each in enumerate(messages) if isinstance(each, Click)]
    for at, _, _, each in sorted(clicks, key=lambda click: click[:3]):
        one = shown.get(each.search_id)
        if one is None:
            groups["unknown", "unknown"]["orphan_clicks"] += 1
            continue
        group = groups[one.release, one.query_kind]
        searched = datetime.fromtimestamp(int(each.search_id[:12], 16) / 1000, UTC)
        if at > searched + timedelta(hours=24):
            group["late"] += 1
        elif each.item_id not in one.items:
            group["not_shown"] += 1
        elif (each.search_id, each.item_id, each.event) in seen:
            group["repeated"] += 1
        else:
            seen.add((each.search_id, each.item_id, each.event))
            group[{"click": "clicks", "cart": "carts", "purchase": "purchases"}[each.event]] += 1
            position = one.start + one.items.index(each.item_id) + 1
            if each.event == "click":
                group["clicked", position] += 1
                first.setdefault(each.search_id, (one.release, one.query_kind, position))
    for release, kind, position in first.values():
        groups[release, kind]["clicked"] += 1
        groups[release, kind]["reciprocal"] += 1 / position
    return groups


NAMES = (
    "impressions", "clicked", "clicks", "carts", "purchases", "orphan_clicks", "not_shown", "late", "repeated",
)  # fmt: skip


@pytest.mark.parametrize(("seed", "slice_rows"), [(1, 10**6), (2, 300)])
def test_a_random_day_is_what_a_loop_counts(day, monkeypatch, seed, slice_rows):
    monkeypatch.setattr(feedback_report, "SLICE_ROWS", slice_rows)
    messages = random_day(day, seed)
    sent = day.send(*messages)
    rows = day.report(NOON)
    expected = counted_in_a_loop(messages, [(each.partition, each.offset) for each in sent])
    assert set(rows) == set(expected) and len(rows) == 9
    for key, row in rows.items():
        group = expected[key]
        assert {name: row[name] for name in NAMES} == {name: group[name] for name in NAMES}, key
        shown, clicked = ([group[what, place] for place in range(1, 11)] for what in ("shown", "clicked"))
        assert (row["shown_at"], row["clicked_at"]) == (shown, clicked), key
        assert row["ctr_at"] == [c / s if s else None for c, s in zip(clicked, shown, strict=True)]
        if group["clicked"]:
            assert math.isclose(row["mrr_first_click"], group["reciprocal"] / group["clicked"])
            assert math.isclose(row["ctr"], group["clicked"] / group["impressions"])
    assert all(sum(row[name] for row in rows.values()) > 0 for name in NAMES)  # each flaw was there


def test_the_same_again_is_not_written_and_late_news_are_a_revision(day):
    shown = day.shown(NOON, ["a", "b"])
    day.send(shown)
    before = day.report(NOON)
    version = day.tables.version(ONLINE_REPORT.name)
    assert day.report(NOON) == before and not any(each.revised for each in day.done.reports)
    assert day.tables.version(ONLINE_REPORT.name) == version
    day.send(day.click(shown, "b"))
    assert day.report(NOON)["1", "words"]["clicks"] == 1
    assert day.done.reports[1].revision == 2 and day.done.reports[1].revised
    assert latest_report(day.tables, NOON.date()).rows == day.done.reports[1].rows
    assert day.tables.count(ONLINE_REPORT) == 2  # what was said before stays


def test_a_day_is_closed_when_clicks_on_its_last_search_can_no_longer_count(day):
    day.send(day.shown(NOON, ["a"]))
    end = datetime(2026, 3, 12, tzinfo=UTC)
    assert not day.report(NOON, now=end - MINUTE)["1", "words"]["closed"]
    assert day.report(NOON, now=end)["1", "words"]["closed"]


def test_a_day_without_searches_has_no_rows(day):
    assert day.report(NOON) == {} and not day.tables.exists(ONLINE_REPORT.name)


def test_ids_of_one_millisecond_differ_and_carry_their_time():
    ids = {new_search_id(1_773_144_000_123, kept=bool(number % 2)) for number in range(1_000)}
    assert len(ids) == 1_000
