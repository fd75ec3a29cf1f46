"""POST /v1/catalogue/changes: who may send, what is taken, what is refused and why; the answer means durable."""

import base64
import hashlib
import json
from datetime import UTC, datetime

import pytest

from lookalike.catalogue.changes import parse_change
from lookalike.contracts.change import ChangeKind, Topic, decode_token
from lookalike.storage.log.port import LogUnavailable

KEY, OTHER = "the-key", "another-key"
HASHES = tuple(hashlib.sha256(key.encode()).hexdigest() for key in (OTHER, KEY))


def bearer(key=KEY):
    return {"Authorization": f"Bearer {key}"}


def change(kind="attributes", item_id="first:dog", **more):
    head = {"schema": 1, "kind": kind, "item_id": item_id, "version": 5, "source": "shop"}
    body = {"attributes": {"columns": {"price": 9.5}}}.get(kind, {})
    return head | {"event_time": datetime.now(UTC).isoformat()} | body | more


def upsert(item_id="new:one", **product):
    return change(
        "upsert", item_id, product={"title": "red apple", "image_path": "https://shop.example/a.png"} | product
    )


def messages(log):
    return [record for p in range(2) for record in log.read(Topic.CHANGES, p, 0, 1_000)]


@pytest.fixture
def server(flowing):
    return flowing(admin_key_hashes=HASHES)


def send(server, body, headers=None, **more):
    headers = bearer() if headers is None else headers
    return server.http.post("/v1/catalogue/changes", json=body, headers=headers, **more)


def send_raw(server, content, media_type, **more):
    headers = bearer() | {"content-type": media_type}
    return server.http.post("/v1/catalogue/changes", content=content, headers=headers, **more)


def test_who_may_send(flowing, log):
    server = flowing(admin_key_hashes=HASHES)
    cases = [
        ({}, 401, "no-key"), ({"Authorization": "Basic abc"}, 401, "no-key"),
        ({"Authorization": "Bearer "}, 401, "no-key"),
        (bearer("wrong"), 403, "not-allowed"), (bearer(HASHES[0]), 403, "not-allowed"),
    ]  # fmt: skip
    for headers, status, kind in cases:
        answer = send(server, change(), headers)
        assert (answer.status_code, answer.json()["type"]) == (status, f"urn:lookalike:problem:{kind}")
        assert ("www-authenticate" in answer.headers) == (status == 401)
    assert messages(log) == []
    for key in (KEY, OTHER):
        assert send(server, change(), bearer(key)).status_code == 202
    assert send(server, change(), {"Authorization": f"bearer {KEY}"}).status_code == 202


def test_without_a_key_in_the_settings_nobody_may_and_it_says_how(flowing, log):
    answer = send(flowing(), change())
    assert answer.status_code == 403 and "lookalike keys new" in answer.json()["detail"]
    assert messages(log) == []


def test_the_key_is_asked_for_before_the_body_is_read(server):
    def endless():
        raise AssertionError("the body was read")
        yield b""

    answer = server.http.post("/v1/catalogue/changes", content=endless(), headers={"content-type": "application/json"})
    assert answer.status_code == 401


def test_one_several_and_lines_are_durable_and_the_token_says_where(server, log):
    sent = [change(item_id=f"first:{word}") for word in ("dog", "cat", "pear")]
    one = send(server, sent[0])
    assert one.status_code == 202 and one.json()["accepted"] == 1 and one.json()["refused"] == []
    several = send(server, sent[1:])
    lines = send_raw(server, "\n\n".join(map(json.dumps, sent)) + "\n", "application/x-ndjson")
    assert (several.json()["accepted"], lines.json()["accepted"]) == (2, 3)
    taken = messages(log)
    assert len(taken) == 6
    for record in taken:
        event = parse_change(record.value, record.appended_ms, server.kit.settings.intake)
        assert event.item_id.encode() == record.key and event.columns == {"price": 9.5}
    ends = {record.partition: record.offset for record in taken}
    token = {p: o for answer in (one, several, lines) for p, o in decode_token(answer.json()["token"]).items()}
    assert token == ends


def test_a_wrong_change_stops_the_whole_request_unless_the_rest_is_wanted(server, log):
    sent = [change(), change(columns={"colour": "red"}), change("remove"), change(version=-1), change("delete")]
    answer = send(server, sent)
    assert answer.status_code == 422 and answer.json()["type"] == "urn:lookalike:problem:invalid-request"
    assert [error["pointer"] for error in answer.json()["errors"]] == ["#/1", "#/2", "#/3"]
    assert "colour" in answer.json()["errors"][0]["detail"]
    assert messages(log) == []
    answer = send(server, sent, params={"accept": "partial"})
    assert answer.status_code == 202 and answer.json()["accepted"] == 2
    assert [error["pointer"] for error in answer.json()["refused"]] == ["#/1", "#/2", "#/3"]
    assert len(messages(log)) == 2
    assert send(server, sent[1], params={"accept": "partial"}).status_code == 422
    assert send(server, sent, params={"accept": "some"}).status_code == 422


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (change() | {"schema": 2}, "schema_version"),
        ({name: value for name, value in change().items() if name != "schema"}, "schema"),
        (5, "malformed"),
        (upsert(title=""), "title"),
        (change(event_time="yesterday"), "event_time"),
    ],
)
def test_each_refusal_names_what_is_wrong(server, body, words):
    answer = send(server, body)
    assert answer.status_code == 422 and words in answer.json()["errors"][0]["detail"]
    assert answer.json()["errors"][0]["pointer"] == "#"


@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"\n \n", "application/x-ndjson", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"{\n", "application/x-ndjson", 422),
        (b"a=1", "application/x-www-form-urlencoded", 415),
        (b" " * 300_000, "application/json", 413),
    ],
)
def test_bodies_that_cannot_be_read(server, log, content, media_type, status):
    answer = send_raw(server, content, media_type)
    assert answer.status_code == status, answer.text
    assert messages(log) == []


def a_png(colour):
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (5, 4), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson"])
def test_a_picture_that_comes_along_is_kept_and_named_by_its_path(server, log, media_type):
    data = a_png((1, 2, 3) if media_type.endswith("json") else (4, 5, 6))
    product = {"title": "red apple", "picture": base64.b64encode(data).decode()}
    answer = send_raw(server, json.dumps(change("upsert", "new:one", product=product)), media_type)
    assert answer.status_code == 202, answer.text
    (record,) = messages(log)
    event = parse_change(record.value, record.appended_ms, server.kit.settings.intake)
    digest = hashlib.sha256(data).hexdigest()
    assert event.kind is ChangeKind.UPSERT and event.product.image_path == f"{digest[:2]}/{digest}.png"
    assert (server.kit.settings.pictures_root / event.product.image_path).read_bytes() == data


@pytest.mark.parametrize(
    ("product", "words"),
    [
        ({"picture": "%%%"}, "base64"),
        ({"picture": 7}, "base64"),
        ({"picture": base64.b64encode(b"no picture").decode()}, "picture_format"),
        ({"picture": base64.b64encode(a_png((0, 0, 0))[:45]).decode()}, "picture_unreadable"),
        ({"picture": base64.b64encode(a_png((0, 0, 0))).decode(), "image_path": "a.png"}, "not both"),
    ],
)
def test_a_wrong_picture_is_refused_with_its_reason_and_not_kept(server, log, product, words):
    before = sorted(server.kit.settings.pictures_root.rglob("*.png"))
    answer = send(server, change("upsert", "new:one", product={"title": "red apple"} | product))
    assert answer.status_code == 422 and words in answer.json()["errors"][0]["detail"]
    assert messages(log) == [] and sorted(server.kit.settings.pictures_root.rglob("*.png")) == before


def test_a_log_that_is_away_is_a_503_that_says_when_to_come_back(server, log, monkeypatch):
    def away(*_):
        raise LogUnavailable("the broker is away")

    monkeypatch.setattr(log, "append", away)
    answer = send(server, change())
    assert answer.status_code == 503 and answer.headers["retry-after"]
    assert answer.json()["type"] == "urn:lookalike:problem:log-away" and "broker" in answer.json()["detail"]
