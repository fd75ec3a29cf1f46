"""A server over a release and a log: changes are in every answer, tokens wait for them, trouble is told."""

import asyncio
import json
import threading
import time

import httpx
import pytest

from lookalike.contracts.change import Position, Topic
from lookalike.contracts.server_report import ServerReport
from lookalike.serving.reporter import Reporter
from lookalike.serving.seen_offsets import SeenOffsets
from lookalike.storage.log.port import Message


def search(server, word, **more):
    return server.http.post("/v1/search", json={"parts": [{"text": word}], "k": 3} | more)


def ids(answer):
    assert answer.status_code == 200, answer.text
    return [hit["item_id"] for hit in answer.json()["hits"]]


def picture_of(sealed, item_id):
    row = int(sealed.rows_of([item_id])[0])
    return tuple(sealed.columns[name][row].as_py() for name in ("image_path", "content_hash"))


def test_every_route_shows_what_changed(flowing, stream, sealed):
    server = flowing()
    cat = picture_of(sealed, "first:cat")
    new = stream.upsert("fresh/one", "guitar", *cat)
    found = search(server, "guitar", min_token=new)
    assert set(ids(found)[:2]) == {"first:guitar", "fresh/one"} and found.json()["fresh"] == 1
    hit = next(hit for hit in found.json()["hits"] if hit["item_id"] == "fresh/one")
    picture = server.http.get(hit["product"]["picture_url"])
    assert picture.status_code == 200 and picture.headers["etag"] == f'"{cat[1]}"'
    assert hit["product"]["picture_url"].endswith(f"?v={cat[1][:12]}")
    assert server.http.get("/v1/items/fresh%2Fone").json()["brand"] == "fresh"
    assert {each["value"] for each in server.http.get("/v1/facets").json()["brand"]} == {"first", "fresh"}
    similar = server.http.get("/v1/items/fresh%2Fone/similar", params={"k": 3})
    assert ids(similar)[0] == "first:guitar"
    moved = stream.upsert("first:dog", "dog", *cat)
    similar = server.http.get("/v1/items/first:dog/similar", params={"min_token": moved})
    assert similar.status_code == 200
    assert server.http.get("/v1/items/first:dog/picture").headers["etag"] == f'"{cat[1]}"'
    gone = stream.delete("first:guitar")
    assert "first:guitar" not in ids(search(server, "guitar", min_token=gone))
    for path in ("/v1/items/first:guitar", "/v1/items/first:guitar/picture", "/v1/items/first:guitar/similar"):
        assert server.http.get(path).status_code == 404, path


def test_a_token_that_does_not_come_is_a_503_that_says_what_is_missing(flowing, stream):
    server = flowing(token_wait_seconds=0.05)
    stream.price("first:dog", 7.0)
    answer = search(server, "dog", min_token="0:99999")
    assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
    assert answer.json()["type"] == "urn:lookalike:problem:not-yet-visible"
    assert "offset 99999 of partition 0" in answer.json()["detail"]
    similar = server.http.get("/v1/items/first:dog/similar", params={"min_token": "1:99999", "max_wait_ms": 0})
    assert similar.status_code == 503


@pytest.mark.parametrize("token", ["", "x", "1", "0:1,", "0:-1", "9:1", "0:1:2"])
def test_what_is_no_token_of_this_log_is_a_422(flowing, token):
    server = flowing()
    assert search(server, "dog", min_token=token).status_code == 422
    similar = server.http.get("/v1/items/first:dog/similar", params={"min_token": token})
    assert similar.status_code == 422


def test_waiting_searches_hold_no_thread_and_end_when_the_change_comes(flowing, stream):
    server = flowing(token_wait_seconds=30.0)
    origin = stream.origin_of("first:dog")  # what the waiting searches are for; published only below
    token = f"{origin.partition}:{origin.offset}"

    async def run():
        transport = httpx.ASGITransport(server.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client:
            query = {"parts": [{"text": "dog"}]}
            waiting = [
                asyncio.create_task(client.post("/v1/search", json=query | {"min_token": token})) for _ in range(40)
            ]
            await asyncio.sleep(0.2)
            others = [await client.post("/v1/search", json=query) for _ in range(5)]  # two threads, forty who wait
            assert {answer.status_code for answer in others} == {200} and not any(task.done() for task in waiting)
            stream.origins[origin.partition] -= 1
            stream.price("first:dog", 7.5)
            return [await task for task in waiting]

    answers = asyncio.run(run())
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["hits"][0]["product"]["price"] for answer in answers} == {7.5}


def test_a_waiter_whose_loop_has_ended_harms_nobody():
    offsets = SeenOffsets()
    assert asyncio.run(offsets.wait({0: 5}, 0.01)) == {0: 5}
    offsets.advance([Position(0, 5), Position(0, 3)])
    assert offsets.seen() == {0: 5} and asyncio.run(offsets.wait({0: 5}, 0.01)) == {}


def test_the_thread_that_advances_wakes_who_waits():
    offsets = SeenOffsets()

    async def run():
        waiting = asyncio.create_task(offsets.wait({0: 5, 1: 2}, 600.0))
        await asyncio.sleep(0)
        for origins in ([Position(0, 5)], [Position(1, 1)], [Position(1, 2)]):
            assert not waiting.done()
            await asyncio.to_thread(offsets.advance, origins)
        return await asyncio.wait_for(waiting, 30)

    assert asyncio.run(run()) == {}


def test_ready_metrics_and_release_tell_of_the_overlay(flowing, stream):
    server = flowing()
    search(server, "dog", min_token=stream.price("first:dog", 7.0))
    ready = server.http.get("/readyz").json()
    assert ready["status"] == "ready" and ready["overlay"]["items"] == 1 and ready["overlay"]["problem"] is None
    release = server.http.get("/v1/release").json()
    assert release["log_offsets"] == {} and release["overlay"]["patched"] == 1
    metrics = server.http.get("/metrics").text
    assert (
        "lookalike_overlay_items 1.0" in metrics and 'lookalike_overlay_updates_total{outcome="patched"} 1.0' in metrics
    )
    assert 'lookalike_change_visible_seconds_count{kind="attributes"} 1.0' in metrics
    assert 'lookalike_overlay_lag_messages{partition="0"} 0.0' in metrics


def test_over_budget_is_degraded_and_a_release_is_asked_for_once(flowing, stream):
    server = flowing(overlay_bytes=2**20)
    reporter = Reporter(server.app.state.serving, server.kit, "here:1")
    reporter.report()
    assert server.kit.asked == []
    with server.follower.pin() as loaded:
        overlay = loaded.following.overlay
    overlay._budget = 1
    for _ in range(3):
        reporter.report()
    ((reason, entry),) = server.kit.asked
    assert "serving.overlay_bytes" in reason and entry.evidence["release"] == "1"
    ready = server.http.get("/readyz").json()
    assert ready["status"] == "degraded" and "a new release is due" in ready["overlay"]["problem"]
    assert "lookalike_overlay_over_budget 1.0" in server.http.get("/metrics").text


def test_reports_reach_the_log_and_a_log_that_is_away_does_not_matter(flowing, stream, log, monkeypatch):
    server = flowing()
    search(server, "dog", min_token=stream.price("first:dog", 7.0))
    reporter = Reporter(server.app.state.serving, server.kit, "here:1")
    reporter.report()
    records = [record for p in range(2) for record in log.read(Topic.REPORTS, p, 0, 10)]
    (report,) = [ServerReport.decode(record.value) for record in records if record.key == b"here:1"]
    assert (report.release, report.live, report.overlay["items"], report.refused) == ("1", "1", 1, None)
    assert report.freshness["attributes"]["count"] == 1 and report.search_p99_ms > 0
    assert report.overlay["seen"] == {str(p): o for p, o in stream.origins.items() if o >= 0}

    def away(*_):
        raise OSError("no disk")

    monkeypatch.setattr(log, "append", away)
    reporter.report()


def test_a_message_of_a_newer_schema_degrades_and_searches_go_on(flowing, log):
    server = flowing()
    log.append(Topic.UPDATES, [Message(b"first:dog", json.dumps({"schema": 99}).encode())])
    deadline = time.monotonic() + 30
    while server.http.get("/readyz").json()["status"] != "degraded":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "schema 99" in server.http.get("/readyz").json()["overlay"]["problem"]
    assert ids(search(server, "dog"))[0] == "first:dog"


def test_no_answer_lacks_a_change_that_was_visible_while_releases_are_exchanged(flowing, stream):
    """Prices only grow; whoever saw one never sees a lower one, whichever release answers."""
    server = flowing()
    release = server.kit.live_release
    faults, stop = [], threading.Event()

    def ask():
        seen = 0.0
        while not stop.is_set():
            price = server.http.get("/v1/items/first:dog").json()["price"]
            if price < seen:
                faults.append((seen, price))
            seen = price

    def change():
        price = 1_000.0
        while not stop.is_set():
            price += 1
            stream.price("first:dog", price)

    threads = [threading.Thread(target=ask), threading.Thread(target=change)]
    for thread in threads:
        thread.start()
    try:
        for number in range(8):
            server.kit.live_release = type(release)(**vars(release) | {"version": str(number + 2)})
            server.poll()
            assert server.http.get("/readyz").json()["release"] == str(number + 2)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert faults == []
    names = [thread.name for thread in threading.enumerate() if thread.name == "overlay-follower"]
    deadline = time.monotonic() + 30
    while len(names) > 1:
        assert time.monotonic() < deadline, "followers of releases that are gone go on"
        time.sleep(0.05)
        names = [thread.name for thread in threading.enumerate() if thread.name == "overlay-follower"]
