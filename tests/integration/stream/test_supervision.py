"""`lookalike stream` as a user runs it: workers are replaced under load, killed supervisors leave no orphans."""

import itertools
import os
import signal
import subprocess
import sys

import pytest

from lookalike.line.server_process import free_port

pytestmark = pytest.mark.slow
REPLACED = "a new worker starts"


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_workers_are_replaced_under_load_without_loss(stream_home, capsys):
    child = stream_home.start(
        "--set", f"stream.worker_memory_bytes={2**28}", "--set", "stream.archive_seconds=0.5", "stream"
    )
    stream_home.produce(per_second=50)
    # The second replacement of a pipeline begins only when the first is over.
    for name in ("enrich", "archive"):
        stream_home.wait(lambda name=name: stream_home.stderr.read_text().count(f"{name}: {REPLACED}") >= 2, child)
    stream_home.stop_producing()
    stream_home.wait(lambda: stream_home.lag() == 0, child)
    child.send_signal(signal.SIGTERM)
    report = stream_home.report(child)
    assert report["recycled"] >= 2
    stream_home.check_nothing_lost_or_doubled()
    times = sorted(at for _, _, at, _ in stream_home.updates())
    silence = max(later - before for before, later in itertools.pairwise(times)) / 1000
    with capsys.disabled():
        sys.stdout.write(f"\n{report['recycled']} workers replaced in {report['seconds']:.0f} s; ")
        sys.stdout.write(f"hand-overs {report['gaps']}; longest silence of vector-updates {silence:.2f} s\n")


def test_a_killed_supervisor_leaves_no_worker_and_the_next_run_goes_on(stream_home):
    child = stream_home.start("stream")
    stream_home.produce(per_second=50)
    stream_home.wait(lambda: len(stream_home.updates()) > 100, child)

    second = stream_home.start("stream")
    assert second.wait(60) == 2
    assert f"in process {child.pid}" in stream_home.stderr.read_text()

    root = stream_home.settings.stream_root
    workers = [int((root / f"{name}.lock").read_text()) for name in ("enrich", "archive")]
    assert all(alive(pid) for pid in workers)
    child.send_signal(signal.SIGKILL)
    child.wait()
    stream_home.wait(lambda: not any(alive(pid) for pid in workers))
    stream_home.stop_producing()

    assert stream_home.lag() > 0
    report = stream_home.report(stream_home.start("stream", "--once"))
    assert stream_home.lag() == 0 and report["archived"] > 0
    stream_home.check_nothing_lost_or_doubled()


def test_once_with_nothing_to_do_starts_no_worker(stream_home):
    report = stream_home.report(stream_home.start("stream", "--once"))
    assert (report["changes"], report["archived"]) == (0, 0)
    assert not (stream_home.settings.home / "logs").exists()


def test_a_log_that_is_away_is_waited_for_but_not_by_a_run_that_is_to_end(stream_home):
    away = ("--set", "log.kind=kafka", "--set", f"log.brokers=127.0.0.1:{free_port('127.0.0.1')}")
    child = stream_home.start(*away, "stream")
    stream_home.wait(lambda: "waiting for the log: Kafka at 127.0.0.1" in stream_home.stderr.read_text(), child)
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) != 0
    assert stream_home.start(*away, "stream", "--once").wait(120) == 75  # try again later


def test_wrong_options_are_explained(stream_home):
    for arguments, said in (
        (("stream", "--option", "--parallelism=4"), "--option is for the runner"),
        (("stream", "--once", "--runner", "FlinkRunner"), "--once is of the local runner"),
    ):
        child = stream_home.start(*arguments)
        try:
            assert child.wait(60) == 2
        except subprocess.TimeoutExpired:
            child.kill()
            raise
        assert said in stream_home.stderr.read_text()
