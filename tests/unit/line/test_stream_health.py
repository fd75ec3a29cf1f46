"""Health of the stream: every reading against its limit, from a real log, real reports and real processes."""

import fcntl
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
import typer
from typer.testing import CliRunner

from beam.pipelines import READS
from lookalike.cli import stream
from lookalike.cli.console import Console
from lookalike.contracts.change import Topic
from lookalike.contracts.server_report import ServerReport
from lookalike.contracts.settings import Settings
from lookalike.line.health import health, supervisor_pid, worker_processes
from lookalike.storage.log.opening import open_log
from lookalike.storage.log.port import Message

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


def settings_of(tmp_path, **limits):
    return Settings(home=tmp_path / "var", health=limits)


def send(settings, topic, *messages):
    log = open_log(settings)
    log.append(topic, [Message(key, value) for key, value in messages])
    log.close()


def report(at=None, **more):
    at = at or datetime.now(UTC)
    fields = {
        "release": "7", "live": "7", "freshness": {"all": {"count": 9, "p50": 0.05, "p99": 0.21}},
        "overlay": {"items": 1, "lag": {"0": {"messages": 3, "seconds": 0.5}}, "problem": None},
    }  # fmt: skip
    return b"a:1", ServerReport(server="a:1", pid=1, started_at=at, at=at, **fields | more).encode()


def over(found):
    return [reading.what for reading in found.over]


def test_looking_makes_no_log(tmp_path):
    settings = settings_of(tmp_path)
    found = health(settings)
    assert not found.over and not settings.home.exists()


def test_lag_is_what_the_pipeline_has_not_dealt_with(tmp_path):
    settings = settings_of(tmp_path, lag_records=4, lag_seconds=0.2)
    send(settings, Topic.CHANGES, *((f"i{number}".encode(), b"{}") for number in range(5)))
    log = open_log(settings)
    time.sleep(0.3)
    found = health(settings)
    assert over(found) == ["enrich lag", "enrich oldest record"]
    assert "enrich lag 5 records (allowed: 4)" in found.line and "archive" not in found.line
    log.commit("enrich", Topic.CHANGES, {p: log.high_watermark(Topic.CHANGES, p) for p in range(log.partitions)})
    log.close()
    assert over(health(settings)) == []


def test_freshness_and_trouble_of_servers_that_speak(tmp_path):
    settings = settings_of(tmp_path, freshness_seconds=0.2)
    send(settings, Topic.REPORTS, report())
    assert over(health(settings)) == ["server a:1 freshness p99"]
    send(settings, Topic.REPORTS, report(freshness={}))
    assert over(health(settings)) == []
    late = {"items": 1, "lag": {"0": {"messages": 3, "seconds": 61.0}}, "problem": "offsets expired"}
    send(settings, Topic.REPORTS, report(freshness={}, overlay=late))
    found = health(settings)
    assert over(found) == ["server a:1 oldest update", "server a:1"] and "offsets expired" in found.line
    # One that is silent or has said good-bye has no freshness to judge.
    for gone in (report(at=datetime.now(UTC) - timedelta(seconds=90)), report(stopped=True)):
        send(settings, Topic.REPORTS, gone)
        assert over(health(settings)) == []


@pytest.fixture
def supervised(tmp_path):
    """This process as the supervisor of two workers; the second one is no worker."""
    settings = settings_of(tmp_path)
    settings.stream_root.mkdir(parents=True)
    children = [subprocess.Popen([*SLEEPER, "beam.worker", "enrich"]), subprocess.Popen([*SLEEPER, "other"])]
    with (settings.stream_root / "supervisor.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(str(os.getpid()))
        file.flush()
        yield settings, children[0]
    for child in children:
        child.kill()
        child.wait()


def test_workers_are_the_supervisors_own(supervised):
    settings, child = supervised
    assert supervisor_pid(settings) == os.getpid()
    (worker,) = worker_processes(os.getpid())
    assert (worker.name, worker.pid) == ("enrich", child.pid)
    assert 0 <= worker.seconds < 60 and 2**20 < worker.rss_bytes < 2**28
    assert worker_processes(1) == []


def test_no_supervisor_is_said_and_a_dead_ones_file_does_not_count(tmp_path):
    settings = settings_of(tmp_path)
    assert supervisor_pid(settings) is None
    settings.stream_root.mkdir(parents=True)
    (settings.stream_root / "supervisor.lock").write_text("1")
    assert supervisor_pid(settings) is None


def test_an_old_and_a_large_worker_are_named(supervised, monkeypatch):
    settings, child = supervised
    send(settings, Topic.CHANGES)
    assert over(health(settings)) == []
    monkeypatch.setattr("lookalike.line.health.os.sysconf", lambda name: 100 if name == "SC_CLK_TCK" else 2**30)
    assert over(health(settings)) == [f"worker enrich ({child.pid}) memory"]
    old = settings.model_copy(update={"health": settings.health.model_copy(update={"worker_minutes": 1e-6})})
    monkeypatch.undo()
    time.sleep(0.05)
    found = health(old)
    assert over(found) == [f"worker enrich ({child.pid}) age"]
    assert {f"worker {name}" for name in READS} - {"worker enrich"} <= {reading.what for reading in found.readings}


@pytest.mark.parametrize("as_json", [True, False])
def test_the_verb_exits_1_and_names_what_is_over(tmp_path, as_json):
    app = typer.Typer()
    stream.register(app)
    settings = settings_of(tmp_path, lag_records=0)
    send(settings, Topic.CHANGES, (b"i", b"{}"))
    done = CliRunner().invoke(app, ["stream", "health"], obj=Console(settings, as_json))
    assert done.exit_code == 1
    assert "enrich lag 1 records (allowed: 0)" in (done.stderr if as_json else done.stdout)
    if as_json:
        told = json.loads(done.stdout)
        assert told["healthy"] is False and told["readings"][0]["over"] is True
    well = CliRunner().invoke(app, ["stream", "health"], obj=Console(settings_of(tmp_path), as_json))
    assert well.exit_code == 0
