"""Verify against a real server on loopback; and the reporter has each move of the pointer written down."""

import contextlib
import threading
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import uvicorn

from lookalike.contracts.change import Topic
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.feedback import decode_feedback
from lookalike.contracts.server_report import ServerReport
from lookalike.line import verify as verifying
from lookalike.line.canaries import Canary, ask_canaries, standing
from lookalike.line.live_checks import run_checks
from lookalike.line.server_process import free_port
from lookalike.line.verify import recent, verify
from lookalike.releases.release import Action, Move
from lookalike.serving.app import create_app
from lookalike.serving.reporter import RECHECK_SECONDS, Reporter
from lookalike.storage.log.opening import open_log
from lookalike.storage.log.port import Message

CANARIES = [Canary("first:apple", "apple of first"), Canary("first:dog", "dog of first")]


@contextlib.contextmanager
def running(kit):
    """The kit's server on a port of its own; its address and its follower."""
    address = f"127.0.0.1:{free_port('127.0.0.1')}"
    app = create_app(kit.settings, source=kit, open_encoder=kit.open_encoder, address=address)
    config = uvicorn.Config(app, port=int(address.split(":")[1]), log_config=None, lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not (server.started and app.state.serving.follower.status().serving):
            time.sleep(0.01)
        yield address, app.state.serving.follower
    finally:
        server.should_exit = True
        thread.join()


def report(settings, server, at=None, **more):
    """As a server would have said it."""
    now = datetime.now(UTC)
    said = ServerReport(server=server, pid=1, started_at=now, at=at or now, release="1", live="1", **more)
    log = open_log(settings)
    log.append(Topic.REPORTS, [Message(server.encode(), said.encode())])
    log.close()


class Pointer:
    """Stands for the registry: what is live is the kit's, a roll-back is only noted."""

    def __init__(self, kit):
        self.live, self.moved = kit.live, []

    def rollback(self, actor, reason, only_from):
        self.moved.append((only_from, reason))
        return Move(Action.ROLLED_BACK, "0", only_from, actor, datetime.now(UTC), "v", reason=reason)


@pytest.fixture
def world(kit, monkeypatch):
    """A kit with release 1 live, and the registry and canaries that verify sees."""
    kit.live_release = kit.release("1", "first")
    kit.pointer = Pointer(kit)
    monkeypatch.setattr(verifying, "Registry", lambda settings: kit.pointer)
    monkeypatch.setattr(verifying, "draw_canaries", lambda settings, release: CANARIES)
    return kit


def test_a_server_that_serves_it_and_finds_its_canaries_holds(world):
    with running(world) as (address, _):
        report(world.settings, address)
        done = verify(world.settings, "1", wait=5, servers=1)
    assert done.passed and done.rolled_back is None
    assert [(s.release, s.held) for s in done.servers] == [("1", True)]
    assert "2 of 2 canaries found themselves" in done.servers[0].found


def test_canary_searches_are_no_impressions(world):
    feedback = world.settings.feedback.model_copy(update={"impressions": True})
    world.settings = world.settings.model_copy(update={"feedback": feedback})
    with running(world) as (address, _):
        report(world.settings, address)
        assert verify(world.settings, "1", wait=5, servers=1).passed
        run_checks(f"http://{address}", "1")
        asked = httpx.post(f"http://{address}/v1/search", json={"parts": [{"text": "dog"}]}).json()
    log = open_log(world.settings)
    found = [
        decode_feedback(each.value)
        for part in range(log.partitions)
        for each in log.read(Topic.FEEDBACK, part, 0, 1_000)
    ]
    log.close()
    assert [each.search_id for each in found] == [asked["search_id"]]  # a shopper's, and none of the canaries'


def test_a_release_that_the_server_refuses_is_rolled_back_with_the_reason(world):
    with running(world) as (address, follower):
        report(world.settings, address)
        world.live_release = world.release("2", "second", judged=False)
        follower.poll()
        done = verify(world.settings, "2", wait=60, or_rollback=True)
        assert done.seconds < 50  # a refusal is not waited out
    assert not done.passed and done.rolled_back.version == "0"
    ((only_from, reason),) = world.pointer.moved
    assert only_from == "2" and "has no verdict" in reason and address in reason
    assert done.servers[0].release == "1"


def test_canaries_that_are_not_in_the_answers_fail_it_and_nothing_moves_unasked(world, monkeypatch):
    strangers = [Canary("first:apple", "apple of first"), *(Canary(f"none:{n}", "pear") for n in range(3))]
    monkeypatch.setattr(verifying, "draw_canaries", lambda settings, release: strangers)
    with running(world) as (address, _):
        report(world.settings, address)
        done = verify(world.settings, "1", wait=5)
    assert not done.passed and world.pointer.moved == [] and "3 are gone since" in done.why


def test_an_answer_of_another_release_or_a_fault_fails_the_canaries(world, monkeypatch):
    with running(world) as (address, follower):
        held, found = ask_canaries(address, "7", CANARIES)
        assert not held and "answered by release 1" in found
        with follower.pin() as loaded:
            monkeypatch.setattr(type(loaded.engine), "search", lambda self, query: 1 / 0)
            held, found = ask_canaries(address, "1", CANARIES)
    assert not held and "status 500" in found


def test_a_server_that_is_away_is_waited_for_and_then_named(world):
    gone = f"127.0.0.1:{free_port('127.0.0.1')}"
    assert standing(gone).serves is None
    report(world.settings, gone)
    done = verify(world.settings, "1", wait=0)
    assert not done.passed and f"{gone}: does not answer" in done.why


def test_stopped_and_silent_servers_do_not_count_and_none_at_all_passes_unless_demanded(world):
    old = datetime.now(UTC) - timedelta(seconds=61)
    report(world.settings, "a:1", at=old)
    report(world.settings, "b:1", stopped=True)
    assert recent([], datetime.now(UTC)) == []
    done = verify(world.settings, "1", wait=0)
    assert done.passed and "no server reported" in done.why
    assert not verify(world.settings, "1", wait=0, servers=1).passed


def test_a_version_that_is_not_live_is_not_verified(world):
    with pytest.raises(LookalikeError, match="version 9 is not live"):
        verify(world.settings, "9", wait=0, or_rollback=True)
    assert world.pointer.moved == []


def test_the_reporter_has_each_move_written_down_once_and_asks_again_now_and_then(shared_kit, serve, monkeypatch):
    server = serve(shared_kit)
    reporter = Reporter(server.app.state.serving, shared_kit, "here:1")
    del shared_kit.noted[:]
    for _ in range(3):
        reporter.note_move()
    assert shared_kit.noted == [("1", "server here:1")]
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + RECHECK_SECONDS)
    reporter.note_move()
    assert len(shared_kit.noted) == 2


def test_a_registry_that_is_away_costs_one_line_and_is_asked_again(shared_kit, serve, monkeypatch, caplog):
    def away(seen_by):
        tries.append(seen_by)
        raise LookalikeError("registry away")

    server, tries = serve(shared_kit), []
    reporter = Reporter(server.app.state.serving, shared_kit, "here:1")
    monkeypatch.setattr(shared_kit, "note_move", away, raising=False)
    for _ in range(3):
        reporter.note_move()
    assert len(tries) == 3 and caplog.text.count("registry away") == 1
