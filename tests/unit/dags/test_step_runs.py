"""The operator with real processes: answers, exit codes, the log, and that nothing outlives its task."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

WATCH = Path(__file__).parents[3] / "dags" / "house" / "watch.py"
TREE = """
import os, subprocess, sys, time, signal
{ignore}
inner = subprocess.Popen([sys.executable, "-c", {inner!r}])
print("pids", os.getpid(), inner.pid, file=sys.stderr, flush=True)
time.sleep(120)
"""
IGNORE = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
SLEEPER = "import time; time.sleep(120)"
# Leaves group and session and does not hear SIGTERM: what a careless library might start.
RUNAWAY = "import os, signal, time; os.setsid(); signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(120)"


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(true, seconds=20.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def exceptions():
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    return AirflowException, AirflowFailException


def test_the_answer_is_the_json_of_stdout(script_step):
    step = script_step("import sys; print('a remark', file=sys.stderr); print('{\"version\": 7}')")
    assert step.run_command([]) == {"version": 7}
    assert "a remark" in step.log.lines


def test_a_command_may_answer_nothing(script_step):
    assert script_step("pass").run_command([]) is None


def test_an_answer_that_is_not_json_fails_for_good(script_step):
    _, fail = exceptions()
    with pytest.raises(fail, match=r"not one JSON document.*hello"):
        script_step("print('hello')").run_command([])


GATE_ANSWER = (
    'import sys; print(\'{"passed": false, "checks": [{"name": "row_loss", "passed": false, "observed": 0.2, '
    '"bar": 0.05}, {"name": "recall", "passed": true}]}\'); sys.exit(1)'
)
FINAL = [
    (GATE_ANSWER, r"check failed: row_loss \(observed 0.2, bar 0.05\)$"),
    ("import sys; print('lookalike: lag 9 is over 5', file=sys.stderr); sys.exit(1)", "lag 9 is over 5"),
    ("import sys; print('x\\nlookalike: no table\\nmake one', file=sys.stderr); sys.exit(2)", "no table\nmake one"),
    ("import sys; print('/bin/python: No module named lookalike.cli', file=sys.stderr); sys.exit(1)", "is missing"),
]
PASSING = [
    ("raise OSError('connection reset')", "broke off: OSError: connection reset"),
    ("import sys; sys.exit(130)", "ended by SIGINT|ended with 130"),
    ("import sys; print('lookalike: odd', file=sys.stderr); sys.exit(70)", "ended with 70: odd"),
    ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL; was memory short"),
]


@pytest.mark.parametrize(("script", "message"), FINAL, ids=["gate", "health", "use", "missing"])
def test_a_failed_check_and_wrong_use_are_not_tried_again(script_step, script, message):
    _, fail = exceptions()
    with pytest.raises(fail, match=message):
        script_step(script).run_command([])


@pytest.mark.parametrize(("script", "message"), PASSING, ids=["fault", "interrupted", "other", "killed"])
def test_any_other_end_is_tried_again(script_step, script, message):
    error, fail = exceptions()
    with pytest.raises(error, match=message) as raised:
        script_step(script).run_command([])
    assert not isinstance(raised.value, fail)


def test_a_program_that_cannot_start_is_named(script_step, monkeypatch):
    _, fail = exceptions()
    step = script_step("")
    monkeypatch.setattr(step, "command", lambda words: ["/nowhere/lookalike"], raising=False)
    with pytest.raises(fail, match="cannot start /nowhere/lookalike"):
        step.run_command([])


def test_the_log_comes_while_the_command_runs(script_step, tmp_path):
    # The command goes on only after its first line was read: a log that came at the end would never let it end.
    seen = tmp_path / "seen"
    script = f"""
import sys, time, pathlib
print("first", file=sys.stderr)
for _ in range(1000):
    if pathlib.Path({str(seen)!r}).exists(): sys.exit(0)
    time.sleep(0.02)
sys.exit(9)
"""
    step = script_step(script, on_line=lambda line: seen.touch() if line == "first" else None)
    step.run_command([])


def test_much_output_on_both_sides_does_not_block(script_step):
    script = "import sys\nfor n in range(20000): print('x' * 60, file=sys.stderr)\nprint('\"' + 'y' * 3000000 + '\"')"
    assert len(script_step(script).run_command([])) == 3_000_000


def run_in_thread(step):
    ended = []

    def run():
        try:
            step.run_command([])
        except Exception as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, ended


def pids_of(lines):
    for line in list(lines):
        if line.startswith("pids "):
            return [int(pid) for pid in line.split()[1:]]
    return []


@pytest.mark.parametrize(("ignore", "inner"), [("", SLEEPER), (IGNORE, SLEEPER), ("", RUNAWAY)],
                         ids=["polite", "deaf", "runaway"])  # fmt: skip
def test_stopping_a_task_stops_all_that_it_started(script_step, ignore, inner):
    step = script_step(TREE.format(ignore=ignore, inner=inner))
    thread, ended = run_in_thread(step)
    wait_until(lambda: len(pids_of(step.log.lines)) == 2)
    pids = pids_of(step.log.lines)
    step.on_kill()
    thread.join(20)
    assert not thread.is_alive() and len(ended) == 1
    assert not any(alive(pid) for pid in pids)
    assert "SIGTERM" in str(ended[0]) or "SIGKILL" in str(ended[0])


def test_what_a_command_leaves_behind_is_ended(script_step):
    script = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {RUNAWAY!r}]); print(p.pid)"
    pid = script_step(script).run_command([])
    assert not alive(pid)


WORKER = """
import subprocess, sys, os
subprocess.run([sys.executable, "-I", sys.argv[1], str(os.getpid()), "1.0", sys.executable, "-c", sys.argv[2]])
"""


@pytest.mark.parametrize("victim", ["worker", "watch"])
def test_a_killed_worker_takes_its_command_with_it(victim):
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(WATCH), TREE.format(ignore="", inner=SLEEPER)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    pids = pids_of([worker.stderr.readline()])
    watch = int(Path(f"/proc/{pids[0]}/stat").read_text().rsplit(")", 1)[1].split()[1])
    assert watch != worker.pid
    os.kill(worker.pid if victim == "worker" else watch, signal.SIGKILL)
    wait_until(lambda: not alive(pids[0]) and not alive(watch))
    if victim == "worker":
        wait_until(lambda: not alive(pids[1]))
    elif alive(pids[1]):
        os.kill(pids[1], signal.SIGKILL)  # the inner one has no watch any more; only the command is promised
    worker.kill()
    worker.wait()


def test_what_is_mapped_over_is_the_result_and_the_rest_has_keys_of_its_own(script_step):
    pushed = {}

    class Instance:
        def xcom_push(self, key, value):
            pushed[key] = value

    step = script_step('print(\'{"build": "b1", "shards": [0, 1], "reused": false}\')', maps="shards")
    assert type(step).execute.__wrapped__(step, {"ti": Instance()}) == [0, 1]
    assert pushed == {"build": "b1", "reused": False}
    _, fail = exceptions()
    step = script_step('print(\'{"build": "b1"}\')', maps="shards")
    with pytest.raises(fail, match="no list 'shards'"):
        type(step).execute.__wrapped__(step, {"ti": Instance()})


def test_airflows_own_secrets_stay_with_airflow(script_step, monkeypatch):
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgres://hidden-x7")
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", "spark://hidden-x7")
    monkeypatch.setenv("LOOKALIKE_HOME", "/data")
    seen = script_step("import json, os; print(json.dumps(dict(os.environ)))").run_command([])
    assert seen["LOOKALIKE_HOME"] == "/data"
    assert not [value for value in seen.values() if "hidden-x7" in value]


@pytest.fixture
def real_step(tmp_path, monkeypatch):
    from house.step import Step

    monkeypatch.setenv("LOOKALIKE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return Step(task_id="real", words=[])


def test_the_real_command_answers(real_step):
    assert set(real_step.run_command(["keys", "new"])) == {"key", "sha256"}


def test_wrong_settings_are_named_in_the_tasks_message(real_step, monkeypatch):
    _, fail = exceptions()
    monkeypatch.setenv("LOOKALIKE_GATE__MIN_RECALL_AT_10", "2")
    with pytest.raises(fail, match=r"LOOKALIKE_GATE__MIN_RECALL_AT_10.*'2' is not allowed"):
        real_step.run_command(["keys", "new"])
