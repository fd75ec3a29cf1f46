"""Airflow's four components on one machine: started, waited for, watched, and stopped in the one order that is clean.

These are the processes that `airflow standalone` starts; started one by one they can be bound to loopback, and none is
left behind: `standalone` leaves all four when it is terminated, and a scheduler that hears a signal together with its
workers hangs. Each has a session of its own, so that Ctrl-C at a terminal reaches only the supervisor.
"""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from lookalike.contracts.errors import LookalikeError
from lookalike.line.airflow_home import HOST, AirflowHome, airflow_command
from lookalike.line.airflow_keeper import MARK

READY_SECONDS = 300.0
SCHEDULER_SECONDS = 3.0
OTHERS_SECONDS = 4.0
STEADY_SECONDS = 60.0
SCHEDULER, API = "scheduler", "api-server"
_WORDS = {
    API: ("api-server", "--host", HOST, "--workers", "1"),
    SCHEDULER: ("scheduler", "--skip-serve-logs"),  # tasks run here, so their logs are files of this machine
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}


def new_run() -> str:
    """A mark that no other run has."""
    return secrets.token_hex(8)


@contextmanager
def carrying_mark(run: str) -> Iterator[None]:
    """What is started within this block belongs to the run."""
    os.environ[MARK] = run
    try:
        yield
    finally:
        del os.environ[MARK]


@dataclass
class Components:
    """The running components of one home. One supervisor per home; see `lookalike.line.airflow`.

    run: the mark of all that belongs to this run and must end with it.
    """

    home: AirflowHome
    run: str
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    _keeper: "subprocess.Popen[bytes] | None" = None
    _started: dict[str, float] = field(default_factory=dict)

    def start(self) -> None:
        """Start the keeper, then all four. Their logs of the run before are kept as NAME.log.1."""
        for name in _WORDS:
            if self.log(name).is_file():
                self.log(name).replace(self.log(name).with_suffix(".log.1"))
        keeper = [sys.executable, "-m", "lookalike.line.airflow_keeper", self.run]
        self._keeper = subprocess.Popen(keeper, stdin=subprocess.PIPE, start_new_session=True)
        for name in _WORDS:
            self.start_one(name)

    def start_one(self, name: str) -> None:
        """Start one component; it appends to its own log."""
        # Process titles are set in place of the arguments; without SPT_NOENV they would cover the mark as well.
        environment = dict(self.home.environment) | {MARK: self.run, "SPT_NOENV": "1"}
        self._started[name] = time.monotonic()
        with self.log(name).open("ab") as output:
            self.processes[name] = subprocess.Popen(
                airflow_command(*_WORDS[name]), env=environment, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def log(self, name: str) -> Path:
        """What the component printed."""
        self.home.logs.mkdir(parents=True, exist_ok=True)
        return self.home.logs / f"{name}.log"

    def tail(self, name: str, lines: int = 15) -> str:
        """The end of that."""
        return "\n".join(self.log(name).read_text(errors="replace").splitlines()[-lines:])

    def ended(self) -> str | None:
        """Name of a component that has ended by itself, if any."""
        return next((name for name, process in self.processes.items() if process.poll() is not None), None)

    def revive(self) -> str | None:
        """Start a component again that ended after it ran well for a while; its name, or None when all run.

        Raises LookalikeError for one that did not last: that would only repeat itself.
        """
        name = self.ended()
        if name is None:
            return None
        if time.monotonic() - self._started[name] < STEADY_SECONDS:
            raise self._gone(name)
        self.start_one(name)
        return name

    def _gone(self, name: str) -> LookalikeError:
        code = self.processes[name].returncode
        log = self.log(name)
        return LookalikeError(f"Airflow's {name} ended with exit code {code}. Its log ({log}) ends:\n{self.tail(name)}")

    def wait_ready(self) -> None:
        """Block until all four report a heartbeat. Raises LookalikeError that names the one that does not."""
        deadline = time.monotonic() + READY_SECONDS
        missing = set(_WORDS)
        while missing and time.monotonic() < deadline:
            if (name := self.ended()) is not None:
                raise self._gone(name)
            missing = self._missing()
            time.sleep(0.5)
        if missing:
            silent = ", ".join(f"{name} (see {self.log(name)})" for name in sorted(missing))
            raise LookalikeError(f"Airflow was not ready within {READY_SECONDS:.0f} s; no heartbeat from {silent}")

    def _missing(self) -> set[str]:
        import httpx

        try:
            health = httpx.get(f"{self.home.url}/api/v2/monitor/health", timeout=10.0).json()
        except (httpx.TransportError, ValueError):
            return set(_WORDS)
        states = {name.replace("_", "-"): (part or {}).get("status") for name, part in health.items()}
        return {name for name in _WORDS if name != API and states.get(name) != "healthy"}

    def stop(self) -> None:
        """Stop all four, tasks too: the scheduler first, because it hangs when its tasks lose the API before."""
        try:
            scheduler = self.processes.get(SCHEDULER)
            if scheduler is not None and not _ended([scheduler], signal.SIGTERM, SCHEDULER_SECONDS):
                _ended([scheduler], signal.SIGTERM, 1.0)  # the second signal: do not wait for running tasks
            _ended(list(self.processes.values()), signal.SIGTERM, OTHERS_SECONDS)
        finally:
            self._sweep()

    def _sweep(self) -> None:
        """Whatever is left goes by SIGKILL; all that they write outlives that."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None and keeper.stdin is not None:
            keeper.stdin.close()
            keeper.wait()
        for process in self.processes.values():
            with suppress(OSError):
                process.kill()
            process.wait()
        self.processes.clear()


def _ended(processes: "list[subprocess.Popen[bytes]]", number: int, seconds: float) -> bool:
    """Send a signal to those that run; whether all have ended within the time."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.send_signal(number)
    deadline = time.monotonic() + seconds
    for process in running:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
    return all(process.poll() is not None for process in running)
