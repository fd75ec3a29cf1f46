"""A real server as a child process: started, waited for, asked over HTTP, stopped. Used by the demo and its tests."""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.settings import Settings

READY_SECONDS = 120.0
STOP_SECONDS = 20.0


@dataclass
class ServerProcess:
    """A running `lookalike serve`."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def wait_ready(self) -> dict[str, Any]:
        """Block until /readyz answers 200; its body. Raises LookalikeError with the end of the log."""
        import httpx

        deadline = time.monotonic() + READY_SECONDS
        try:
            while time.monotonic() < deadline and self.process.poll() is None:
                try:
                    answer = httpx.get(f"{self.url}/readyz", timeout=5.0)
                    if answer.status_code == 200:
                        return dict(answer.json())
                except httpx.TransportError:
                    pass
                time.sleep(0.2)
        except BaseException:  # Ctrl-C must not leave the child behind
            self.stop()
            raise
        self.stop()
        raise LookalikeError(f"the server at {self.url} did not get ready. Its log ({self.log}) ends:\n{self.tail()}")

    def tail(self, lines: int = 15) -> str:
        """The last lines of the server's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """SIGTERM, then SIGKILL when it does not go."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def free_port(host: str) -> int:
    """A port that is free now."""
    import socket

    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def start_server(settings: Settings, port: int) -> ServerProcess:
    """Start `lookalike serve` on these settings. Port 0 takes a free one."""
    host = settings.serving.host
    port = port or free_port(host)
    log = settings.home.absolute() / "logs" / f"serve-{port}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "lookalike.cli", "--home", str(settings.home)]
    for section, values in settings.model_dump(mode="json", exclude_unset=True).items():
        if isinstance(values, dict):
            command += [
                word
                for key, value in values.items()
                if isinstance(value, str | int | float)
                for word in ("--set", f"{section}.{key}={value}")
            ]
    command += ["serve", "--host", host, "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    return ServerProcess(process, f"http://{host}:{port}", log)
