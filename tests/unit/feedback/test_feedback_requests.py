"""The server's side: an id on every answer, what is noted of it, and what may be said about it afterwards."""

import json
import time
from datetime import UTC, datetime, timedelta

import jsonschema
import pytest

from lookalike.contracts.change import Topic
from lookalike.contracts.feedback import (
    NOT_RECORDED,
    Click,
    Impression,
    decode_feedback,
    impression_kept,
    new_search_id,
    searched_at,
)
from lookalike.serving.routes_feedback import MAX_BYTES, read_feedback
from lookalike.serving.schemas import MAX_FEEDBACK
from lookalike.storage.log.port import LogUnavailable
from lookalike.storage.log.sqlite import SqliteLog

DOG = {"parts": [{"text": "dog"}]}


def noted(log):
    """Everything that is in the topic."""
    records = [record for partition in range(2) for record in log.read(Topic.FEEDBACK, partition, 0, 10_000)]
    return [decode_feedback(record.value) for record in records]


def now_ms():
    return time.time_ns() // 1_000_000


def say(client, search_id, item="first:dog", event="click", **more):
    return client.post("/v1/feedback", json={"search_id": search_id, "item_id": item, "event": event, **more})


def test_every_answer_has_an_id_of_its_own_and_by_default_nothing_is_kept(server):
    client, began = server(), datetime.now(UTC) - timedelta(seconds=1)
    answers = [client.post("/v1/search", json=DOG) for _ in range(2)] + [client.get("/v1/items/first:dog/similar")]
    ids = [answer.json()["search_id"] for answer in answers]
    assert len(set(ids)) == 3
    for answer, search_id in zip(answers, ids, strict=True):
        assert answer.headers["Lookalike-Search"] == search_id and not impression_kept(search_id)
        assert began < searched_at(search_id) < datetime.now(UTC) + timedelta(seconds=1)
    assert say(client, ids[0]).json() == {"accepted": 0, "not_kept": 1}
    client.end()
    assert noted(client.log) == []


def test_an_impression_says_what_was_shown_and_not_what_was_asked(server):
    client = server(impressions=True)
    filters = [{"field": "brand", "any_of": ["first"]}, {"field": "price", "at_least": 0}]
    answer = client.post("/v1/search", json=DOG | {"k": 4, "filters": filters}).json()
    following = client.post("/v1/search", json=DOG | {"k": 4, "filters": filters, "cursor": answer["next_cursor"]})
    like = client.get("/v1/items/first:dog/similar").json()
    mixed = client.post("/v1/search", json={"parts": [{"text": "dog"}, {"item_id": "first:cat"}]}).json()
    client.end()  # the rest is written while it stops
    found = {each.search_id: each for each in noted(client.log)}
    one = found[answer["search_id"]]
    assert one.items == tuple(hit["item_id"] for hit in answer["hits"]) and len(one.items) == 4
    assert (one.release, one.query_kind, one.start, one.k) == ("1", "words", 0, 4)
    assert one.filters == ("brand", "price") and b"dog" not in one.encode().replace(b"first:dog", b"")
    second = found[following.json()["search_id"]]
    assert second.start == 4 and set(second.items).isdisjoint(one.items)
    assert found[like["search_id"]].query_kind == "item" and found[mixed["search_id"]].query_kind == "mixed"
    assert len(found) == 4


def test_a_sample_is_kept_and_the_ids_say_which(server):
    client = server(impressions=True, sample_rate=0.5)
    ids = [client.post("/v1/search", json=DOG).json()["search_id"] for _ in range(60)]
    kept = {search_id for search_id in ids if impression_kept(search_id)}
    assert 10 < len(kept) < 50
    client.end()
    assert {each.search_id for each in noted(client.log)} == kept


def test_an_answer_that_the_caller_does_not_want_recorded_is_no_impression(server):
    client = server(impressions=True)

    def ask(headers):
        return [
            client.post("/v1/search", json=DOG, headers=headers),
            client.post("/v1/search", data={"query": json.dumps(DOG)}, files={"picture": b""}, headers=headers),
            client.get("/v1/items/first:dog/similar", headers=headers),
        ]

    ids = [answer.json()["search_id"] for answer in ask(NOT_RECORDED)]
    assert not any(map(impression_kept, ids))
    assert say(client, ids[0]).json() == {"accepted": 0, "not_kept": 1}
    noted_ids = {answer.json()["search_id"] for answer in ask({}) + ask({"lookalike-record": "yes"})}
    for answer in ask({"Lookalike-Record": "off"}):
        assert (
            answer.status_code == 422 and "Lookalike-Record: Input should be 'yes' or 'no'" in answer.json()["detail"]
        )
    client.end()
    assert {each.search_id for each in noted(client.log)} == noted_ids and len(noted_ids) == 6


def test_clicks_are_in_the_log_before_the_answer(server):
    client = server(impressions=True)
    search_id = client.post("/v1/search", json=DOG).json()["search_id"]
    at = (datetime.now(UTC) + timedelta(seconds=10)).isoformat()
    body = [
        {"search_id": search_id, "item_id": "first:cat", "event": "cart", "at": at},
        {"search_id": new_search_id(now_ms(), kept=False), "item_id": "first:cat", "event": "purchase"},
    ]
    answer = client.post("/v1/feedback", json=body)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "not_kept": 1})
    assert say(client, search_id).json() == {"accepted": 1, "not_kept": 0}
    clicks = [each for each in noted(client.log) if isinstance(each, Click)]
    assert [(each.item_id, each.event) for each in clicks] == [("first:cat", "cart"), ("first:dog", "click")]
    assert clicks[0].at.isoformat() == at
    text = client.get("/metrics").text
    assert "lookalike_feedback_accepted_total 2.0" in text and "lookalike_feedback_not_kept_total 1.0" in text


GOOD = new_search_id(now_ms(), kept=True)
WRONG = [
    ({"item_id": "a", "event": "click"}, "#/search_id", "Field required"),
    ({"search_id": "f" * 32, "item_id": "a", "event": "click"}, "#/search_id", "pattern"),
    ({"search_id": GOOD, "item_id": "", "event": "click"}, "#/item_id", "at least 1"),
    ({"search_id": GOOD, "item_id": "a" * 513, "event": "click"}, "#/item_id", "at most 512"),
    ({"search_id": GOOD, "item_id": "\ud800", "event": "click"}, "#/item_id", "string"),
    ({"search_id": GOOD, "item_id": "a", "event": "look"}, "#/event", "'click', 'cart' or 'purchase'"),
    ({"search_id": GOOD, "item_id": "a", "event": "click", "user": 1}, "#/user", "not permitted"),
    ({"search_id": GOOD, "item_id": "a", "event": "click", "at": "2026-03-01T10:00"}, "#/at", "timezone"),
    ({"search_id": GOOD, "item_id": "a", "event": "click", "at": "9999-12-31T23:59:59-23:00"}, "#/at", "leave it out"),
    ({"search_id": GOOD, "item_id": "a", "event": "click", "at": "0001-01-01T00:00:00+23:00"}, "#/at", "leave it out"),
    ({"search_id": new_search_id(4_000_000_000_000, True), "item_id": "a", "event": "click"}, "#/search_id", "not yet"),
    ({"search_id": new_search_id(10**12, True), "item_id": "a", "event": "click"}, "#/search_id", "30 days"),
    ("click", "#/", "dictionary"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "pointer", "says"), WRONG)
def test_wrong_events_are_refused_with_a_pointer(server, body, pointer, says):
    client = server(impressions=True)
    send = {"content": json.dumps(body), "headers": {"content-type": "application/json"}}
    answer = client.post("/v1/feedback", **send)
    assert answer.status_code == 422 and answer.headers["content-type"] == "application/problem+json"
    (error,) = answer.json()["errors"]
    assert error["pointer"] == pointer and says in error["detail"]
    both = json.dumps([{"search_id": GOOD, "item_id": "a", "event": "click"}, body])
    answer = client.post("/v1/feedback", content=both, headers=send["headers"])
    assert answer.json()["errors"][0]["pointer"] == pointer.replace("#/", "#/1/").removesuffix("/")
    assert noted(client.log) == []  # all or none


def test_bodies_that_are_none(server):
    client, kind = server(), {"content-type": "application/json"}
    assert client.post("/v1/feedback", content=b"{", headers=kind).status_code == 400
    assert client.post("/v1/feedback", content=b"[" * 100_000, headers=kind).status_code == 400
    assert client.post("/v1/feedback", content=b"[]", headers=kind).status_code == 400
    many = json.dumps([{}] * (MAX_FEEDBACK + 1))
    assert f"1 to {MAX_FEEDBACK:,}" in client.post("/v1/feedback", content=many, headers=kind).json()["detail"]
    assert client.post("/v1/feedback", content=b" " * (MAX_BYTES + 1), headers=kind).status_code == 413
    assert client.post("/v1/feedback", content=b"{}", headers={"content-type": "text/plain"}).status_code == 415


class AwayLog:
    """A log whose appends fail while `away`."""

    def __init__(self, log):
        self._log, self.away = log, True

    def append(self, topic, messages):
        if self.away and topic == Topic.FEEDBACK:
            raise LogUnavailable("the log is away")
        return self._log.append(topic, messages)

    def close(self):
        """The server ends; the test goes on reading."""

    def __getattr__(self, name):
        return getattr(self._log, name)


@pytest.fixture
def away(tmp_path):
    log = SqliteLog(tmp_path / "away.db", 2, 1e6)
    yield AwayLog(log)
    log.close()


def test_searches_go_on_while_the_log_is_away_and_what_is_lost_is_counted(server, away):
    client = server(log=away, impressions=True, queue=3)
    answers = [client.post("/v1/search", json=DOG) for _ in range(8)]
    assert all(answer.status_code == 200 for answer in answers)
    said = say(client, answers[0].json()["search_id"])
    assert said.status_code == 503 and said.json()["type"].endswith("log-away") and "Retry-After" in said.headers
    ids = [answer.json()["search_id"] for answer in answers]
    kept = {search_id for search_id in ids if impression_kept(search_id)}
    text = client.get("/metrics").text
    assert len(kept) < 8 and f"lookalike_impressions_dropped_total {8 - len(kept)}.0" in text
    away.away = False
    client.end()
    assert {each.search_id for each in noted(away)} == kept  # those that waited came, with the ids that say so


def test_a_server_ends_though_the_log_stays_away(server, away):
    client = server(log=away, impressions=True)
    client.post("/v1/search", json=DOG)
    metrics = client.app.state.serving.metrics
    client.end()
    assert b"lookalike_impressions_dropped_total 1.0" in metrics.exposition()


def test_the_document_has_true_examples(server):
    client = server()
    document = client.get("/openapi.json").json()
    body = document["paths"]["/v1/feedback"]["post"]["requestBody"]["content"]["application/json"]
    noon = datetime(2026, 11, 23, 12, tzinfo=UTC)
    for each in body["examples"].values():
        jsonschema.validate(each["value"], {"components": document["components"]} | body["schema"])
        assert read_feedback(json.dumps(each["value"]).encode(), noon)


def test_messages_come_back_as_they_were_sent():
    shown = Impression(
        search_id=GOOD, release="7", query_kind="mixed", start=24, items=("a", "ü"), filters=("brand",), k=24
    )
    click = Click(search_id=GOOD, item_id="ü", event="cart", at=datetime(2026, 3, 10, 12, tzinfo=UTC))
    assert decode_feedback(shown.encode()) == shown and decode_feedback(click.encode()) == click
