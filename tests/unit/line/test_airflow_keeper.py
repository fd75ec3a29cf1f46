import os
import secrets
import signal
import subprocess
import sys
import time

import pytest

from lookalike.line.airflow_keeper import MARK, marked

KEEPER = [sys.executable, "-m", "lookalike.line.airflow_keeper"]
SUPERVISOR = """
import os, subprocess, sys, time
run = sys.argv[1]
keeper = [sys.executable, "-m", "lookalike.line.airflow_keeper", run]
subprocess.Popen(keeper, stdin=subprocess.PIPE, start_new_session=True)
task = "import subprocess, time; subprocess.Popen(['sleep', '300'], start_new_session=True); time.sleep(300)"
subprocess.Popen([sys.executable, "-c", task], env=os.environ | {sys.argv[2]: run}, start_new_session=True)
time.sleep(300)
"""


def wait_for(holds, seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)
    return holds()


@pytest.fixture
def run():
    name = secrets.token_hex(8)
    yield name
    for pid in marked(name):
        os.kill(pid, signal.SIGKILL)


def test_the_end_of_the_pipe_ends_marked_processes_and_no_others(run):
    keeper = subprocess.Popen([*KEEPER, run], stdin=subprocess.PIPE)
    ours = subprocess.Popen(["sleep", "300"], env=os.environ | {MARK: run}, start_new_session=True)
    strangers = [subprocess.Popen(["sleep", "300"], env=os.environ | {MARK: mark}) for mark in (run + "0", "other")]
    try:
        assert wait_for(lambda: marked(run) == [ours.pid])
        keeper.stdin.close()
        assert keeper.wait(30) == 0
        assert ours.wait(10) == -signal.SIGKILL
        assert [stranger.poll() for stranger in strangers] == [None, None]
    finally:
        for process in (keeper, ours, *strangers):
            process.kill()
            process.wait()


def test_a_killed_supervisor_leaves_nothing_behind(run):
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR, run, MARK])
    try:
        assert wait_for(lambda: len(marked(run)) == 2)  # the task, and what it started in a session of its own
    finally:
        supervisor.kill()
        supervisor.wait()
    assert wait_for(lambda: not marked(run))
