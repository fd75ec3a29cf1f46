import socket
import subprocess
from types import SimpleNamespace

import pytest

from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.settings import load_settings
from lookalike.line import airflow, airflow_components
from lookalike.line.airflow_api import AirflowApi


@pytest.fixture
def ran(monkeypatch):
    """Commands that were run in place of the demo; the first entry of `codes` is what the next one ends with."""
    ran = SimpleNamespace(commands=[], environments=[], codes=[0])

    def run(command, env, check):
        ran.commands.append(command[1:])
        ran.environments.append(env)
        return SimpleNamespace(returncode=ran.codes[0])

    monkeypatch.setattr(airflow.subprocess, "run", run)
    return ran


def registry(live):
    return lambda settings: SimpleNamespace(live=lambda: live)


@pytest.mark.parametrize(
    ("live", "snapshots", "expected", "demos"), [("1", 0, True, 0), (None, 1, False, 0), (None, 0, True, 1)]
)
def test_only_an_empty_home_gets_the_demo(tmp_path, monkeypatch, ran, live, snapshots, expected, demos):
    monkeypatch.setattr("lookalike.releases.registry.Registry", registry(live))
    monkeypatch.setattr("lookalike.line.snapshots.all_snapshots", lambda settings: [tmp_path] * snapshots)
    settings = load_settings(home=tmp_path, gate={"seed": 3})
    assert airflow._make_release(settings, lambda text: None) is expected
    assert ran.commands == [["-m", "lookalike.cli", "demo", "--check", "--port", "0"]] * demos
    for environment in ran.environments:
        assert environment["LOOKALIKE_HOME"] == str(tmp_path)
        assert environment["LOOKALIKE_GATE__SEED"] == "3"


def test_a_demo_that_failed_stops_the_start(tmp_path, monkeypatch, ran):
    monkeypatch.setattr("lookalike.releases.registry.Registry", registry(None))
    ran.codes[0] = 1
    with pytest.raises(LookalikeError, match="ended with 1"):
        airflow._make_release(load_settings(home=tmp_path), lambda text: None)


def test_a_taken_port_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LookalikeError, match=f"port {port}"):
            airflow._port(port)
    assert airflow._port(0) > 0


@pytest.fixture
def components(tmp_path, monkeypatch):
    """Components of which each is a shell command; `commands` may be changed before one is started."""
    commands = dict.fromkeys(airflow_components._WORDS, "sleep 300")
    monkeypatch.setattr(airflow_components, "airflow_command", lambda *words: ["sh", "-c", commands[words[0]]])
    home = SimpleNamespace(logs=tmp_path / "logs", environment={"PATH": "/usr/bin:/bin"}, url="http://127.0.0.1:1")
    components = airflow_components.Components(home, airflow_components.new_run())
    yield components, commands
    components.stop()


def test_one_that_lasted_is_started_again_and_one_that_did_not_is_shown(components, monkeypatch):
    components, commands = components
    components.start()
    assert components.revive() is None
    first = components.processes["scheduler"]
    first.kill()
    first.wait()
    monkeypatch.setattr(airflow_components, "STEADY_SECONDS", 0.0)
    assert components.revive() == "scheduler"
    assert components.processes["scheduler"].poll() is None
    monkeypatch.setattr(airflow_components, "STEADY_SECONDS", 60.0)
    commands["triggerer"] = "echo no database; exit 7"
    components.processes["triggerer"].kill()
    components.processes["triggerer"].wait()
    components.start_one("triggerer")
    components.processes["triggerer"].wait()
    with pytest.raises(LookalikeError, match=r"triggerer ended with exit code 7[\s\S]*no database"):
        components.revive()


def test_stopping_ends_those_too_that_do_not_hear(components, monkeypatch):
    components, commands = components
    for name in ("SCHEDULER_SECONDS", "OTHERS_SECONDS"):
        monkeypatch.setattr(airflow_components, name, 0.3)
    commands["scheduler"] = "trap '' TERM; while true; do sleep 0.1; done"
    components.start()
    processes = list(components.processes.values())
    components.stop()
    assert all(process.poll() is not None for process in processes)
    assert components.processes == {}


def test_a_refusal_of_airflow_is_quoted():
    api = AirflowApi.__new__(AirflowApi)
    answer = SimpleNamespace(
        is_success=False, status_code=404, text="no such pool",
        request=SimpleNamespace(method="GET", url="http://127.0.0.1/api/v2/pools/x"),
    )  # fmt: skip
    with pytest.raises(LookalikeError, match=r"404 to GET \S+/pools/x: no such pool"):
        api._checked(answer)


def test_what_is_started_within_the_mark_carries_it():
    words = ["sh", "-c", f"echo ${airflow_components.MARK}"]
    with airflow_components.carrying_mark("abc"):
        within = subprocess.run(words, capture_output=True, text=True).stdout
    assert (within, subprocess.run(words, capture_output=True, text=True).stdout) == ("abc\n", "\n")
