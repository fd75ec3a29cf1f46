"""What the stream's benches share: a copy of a home to work in, processes that start and die, and their memory."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from lookalike.contracts.settings import Settings

LEFT_OUT = ("packages", "logs", "evaluation", "log.db*", "stream", ".registry-*.lock")
STOP_SECONDS = 60.0


def copy_home(home: Path, target: Path) -> Path:
    """The tables, pictures and registry of `home`; releases and encoders stay where the registry says they lie."""
    if not (home / "mlflow.db").is_file():
        raise SystemExit(f"{home} has no release: run `make demo CHECK=1` first, or name a home with one by --home")
    shutil.copytree(home, target, ignore=shutil.ignore_patterns(*LEFT_OUT), dirs_exist_ok=True)
    return target


@dataclass
class Process:
    """A command of ours under measurement, restarted at will."""

    command: list[str]
    log: Path
    popen: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        """Start it; its output is appended to `log`."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self.popen = subprocess.Popen(
                self.command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env=os.environ | self.environment,
            )  # fmt: skip

    @property
    def running(self) -> bool:
        """Whether it runs now."""
        return self.popen is not None and self.popen.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.popen is not None
        return self.popen.pid

    def stop(self) -> int:
        """SIGTERM, wait, SIGKILL when it does not go; the exit code."""
        if self.popen is None:
            return 0
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.popen.kill()
        return self.popen.wait()

    def kill(self) -> None:
        """SIGKILL to this process alone."""
        assert self.popen is not None
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait()

    def tail(self, lines: int = 20) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def command(settings: Settings, options: list[str], verb: list[str]) -> list[str]:
    """The command line of a verb on this home; `options` are pairs as `--set` takes them."""
    words = [sys.executable, "-m", "lookalike.cli", "--home", str(settings.home)]
    return words + [word for option in options for word in ("--set", option)] + verb


def wait_until(what: str, holds: object, seconds: float, every: float = 0.2) -> None:
    """Wait until `holds()` is true. Raises TimeoutError that names what was waited for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            if holds():  # type: ignore[operator]
                return
        time.sleep(every)
    raise TimeoutError(f"{what}: not within {seconds:.0f} s")


def server_ready(url: str) -> bool:
    """Whether the server answers searches."""
    return httpx.get(f"{url}/readyz", timeout=5.0).status_code == 200


def children_of(pid: int) -> list[int]:
    """Direct children of a process, from /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(stat.parent.name))
    return sorted(found)


def command_line(pid: int) -> str:
    """How the process was called; empty when it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def memory_of(pid: int) -> int:
    """Resident bytes of a process; 0 when it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0
