"""A home of its own with a real server and a real stream over the demo's release, and the benches' tools."""

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from lookalike.contracts.settings import Settings, load_settings
from lookalike.line.server_process import free_port

BENCH = Path(__file__).parents[3] / "bench"
sys.path.insert(0, str(BENCH))

from harness import Process, command, copy_home, server_ready, wait_until  # noqa: E402

QUICK = ["stream.retry_seconds=0.3", "stream.retry_attempts=3", "stream.archive_seconds=1"]


@dataclass
class Running:
    """A server and a stream on one home."""

    home: Path
    settings: Settings
    url: str
    stream: Process
    server: Process

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=30.0)

    def search(self, **query) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/search", json=query, timeout=30.0)


@pytest.fixture
def stream_home(demo_home, tmp_path) -> Path:
    """A copy of the finished demo."""
    return copy_home(demo_home.home, tmp_path / "home")


@contextmanager
def running(home: Path, *options: str):
    """`lookalike serve` and `lookalike stream` until the block ends; both must end with 0."""
    from lookalike.cli.main import parse_assignments

    chosen = [*QUICK, *options]
    settings = load_settings(home=home, **parse_assignments(chosen))
    url = f"http://127.0.0.1:{(port := free_port('127.0.0.1'))}"
    server = Process(command(settings, chosen, ["serve", "--port", str(port)]), home / "logs" / "serve.log")
    stream = Process(command(settings, chosen, ["stream"]), home / "logs" / "stream.log")
    server.start()
    stream.start()
    try:
        wait_until("the server is ready", lambda: server_ready(url), 180)
        yield Running(home, settings, url, stream, server)
        assert stream.stop() == 0, stream.tail()
    finally:
        stream.stop()
        server.stop()


@pytest.fixture
def run_stream():
    """`running`, as a fixture."""
    return running
