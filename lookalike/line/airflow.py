"""Airflow over this home: schedules, backfills and approvals in its UI, with a real server behind it.

One supervisor per home. It sets up what the DAGs need (pools, the connection for Spark) and holds the components; when
it ends, however it ends, so do they.
"""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.settings import Settings
from lookalike.line.airflow_api import AirflowApi
from lookalike.line.airflow_components import Components, carrying_mark, new_run
from lookalike.line.airflow_home import DAGS, HOST, USERS, AirflowHome, prepare_home, settings_environment

Say = Callable[[str], None]
PARSED_SECONDS = 120.0
WATCH_SECONDS = 1.0
POOLS = (
    ("tables", 1, "writers of Delta tables: one at a time"),
    ("gpu", 1, "embedding and training: as many as there are GPUs"),
    ("index", 2, "shards of an index built at a time"),
)
SPARK_CONNECTION = "spark_default"
FOLLOWERS = ("index_release",)  # these run only when others set them off, so they need not wait for a click


@dataclass(frozen=True)
class RunningAirflow:
    """Components that are up, and a client of theirs."""

    home: AirflowHome
    components: Components
    api: AirflowApi


@contextmanager
def airflow_up(
    settings: Settings, port: int, users: Mapping[str, str] = USERS, dags: Path = DAGS, run: str | None = None
) -> Iterator[RunningAirflow]:
    """Airflow until the block ends; port 0 takes a free one. `users` as in `prepare_home`, `run` as in `Components`.

    Raises LookalikeError when this home's Airflow runs already, the port is taken, or a component does not come up.
    """
    with _only_supervisor(settings):
        home = prepare_home(settings, _port(port), dags, users)
        home.migrate()
        components = Components(home, run or new_run())
        try:
            components.start()
            components.wait_ready()
            api = AirflowApi(home)
            try:
                set_up(api, settings)
                yield RunningAirflow(home, components, api)
            finally:
                api.close()
        finally:
            components.stop()


def set_up(api: AirflowApi, settings: Settings) -> None:
    """Pools, and the connection for Spark; the same again changes nothing."""
    for name, slots, description in POOLS:
        api.put_pool(name, slots, description)
    api.put_connection(SPARK_CONNECTION, "spark", settings.spark.master, "follows the setting spark.master")


def wait_parsed(api: AirflowApi, wanted: tuple[str, ...]) -> None:
    """Block until these DAGs are known. Raises LookalikeError with what Airflow says about the files it cannot read."""
    deadline = time.monotonic() + PARSED_SECONDS
    while missing := set(wanted) - set(api.dags()):
        if errors := api.import_errors():
            found = "\n".join(f"{file}:\n{text}" for file, text in errors.items())
            raise LookalikeError(f"Airflow cannot read these files of DAGs:\n{found}")
        if time.monotonic() > deadline:
            raise LookalikeError(f"Airflow knows no DAG {', '.join(sorted(missing))} after {PARSED_SECONDS:.0f} s")
        time.sleep(1.0)


def run_airflow(settings: Settings, say: Say, port: int, server_port: int | None, users: Mapping[str, str]) -> int:
    """Airflow and a server until Ctrl-C; the exit code. An empty home gets the demo's catalogue and release first."""
    from lookalike.line.server_process import start_server

    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)  # a shell that starts things in the background has it ignored
    live = _make_release(settings, say)
    server_port = settings.serving.port if server_port is None else server_port
    if server_port:
        _port(server_port)
    say("starting the server and Airflow: half a minute on a quiet machine")
    with carrying_mark(run := new_run()):
        server = start_server(settings, server_port)
    try:
        with airflow_up(settings, port, users, run=run) as running:
            if live:
                server.wait_ready()
            _follow(running.api)
            for line in _greeting(running.home, server.url):
                say(line)
            while server.process.poll() is None:
                if name := running.components.revive():
                    say(f"Airflow's {name} had ended and was started again")
                time.sleep(WATCH_SECONDS)
            raise LookalikeError(f"the server ended by itself, so all was stopped. Its log: {server.log}")
    except KeyboardInterrupt:
        say("stopped; `make airflow` again goes on from here")
        return 0
    finally:
        server.stop()


def _greeting(home: AirflowHome, server: str) -> Iterator[str]:
    users = ", ".join(f"user {user}, password {password}" for user, password in home.passwords.items())
    yield f"Airflow: {home.url}  ({users})"
    yield f"search:  {server}"
    yield f"by hand: export AIRFLOW_HOME={home.folder}  then .venv/bin/airflow …"
    yield "open catalogue_nightly and press Trigger: a release goes live on the server by itself. Ctrl-C stops all"


def _make_release(settings: Settings, say: Say) -> bool:
    """Whether a release is live; whoever brought a catalogue of his own gets his first release by the first night."""
    from lookalike.line.snapshots import all_snapshots
    from lookalike.releases.registry import Registry

    if Registry(settings).live() is not None:
        return True
    if all_snapshots(settings):
        say("nothing is live yet: the server answers after the first night")
        return False
    say("no catalogue yet: the demo's line runs first")
    # In a process of its own: Spark, torch and FAISS would stay in this one for as long as Airflow runs.
    command = [sys.executable, "-m", "lookalike.cli", "demo", "--check", "--port", "0"]
    code = subprocess.run(command, env=dict(os.environ) | settings_environment(settings), check=False).returncode
    if code:
        raise LookalikeError(f"`lookalike demo --check` ended with {code}, see above; mend that, then start again")
    return True


def _follow(api: AirflowApi) -> None:
    wait_parsed(api, FOLLOWERS)
    for dag in FOLLOWERS:
        api.set_paused(dag, False)


@contextmanager
def _only_supervisor(settings: Settings) -> Iterator[None]:
    path = settings.locks_root / "airflow.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = path.read_text().strip() or "another process"
            raise LookalikeError(
                f"Airflow of {settings.home.absolute()} runs already ({holder}); stop that one, or name another --home"
            ) from None
        os.ftruncate(file.fileno(), 0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield


def _port(wanted: int) -> int:
    """`wanted`, or a free port for 0. Raises LookalikeError when it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError as error:
            raise LookalikeError(f"port {wanted} of {HOST} is taken ({error.strerror}); name another one") from error
        return int(probe.getsockname()[1])


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
