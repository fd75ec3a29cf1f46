"""Shared fixtures. `demo_home` is the whole straight line, run once per session by the real command."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

DEMO_SECONDS = 1500


@dataclass(frozen=True)
class Demo:
    """A home in which `lookalike demo --check` ran, and what it reported."""

    home: Path
    report: dict


@dataclass(frozen=True)
class ServedDemo:
    """A running server on a demo home."""

    url: str
    home: Path


def lookalike(*arguments: str, home: Path, timeout: float = DEMO_SECONDS) -> subprocess.CompletedProcess:
    """Run the real command line."""
    command = [sys.executable, "-m", "lookalike.cli", "--home", str(home), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=home.parent)


@pytest.fixture(scope="session")
def demo_home(tmp_path_factory) -> Demo:
    """The line run once; DEMO_HOME names a folder to keep it in and reuse it (for work on one test)."""
    kept = os.environ.get("DEMO_HOME")
    home = Path(kept).absolute() if kept else tmp_path_factory.mktemp("demo") / "home"
    home.mkdir(parents=True, exist_ok=True)
    done = lookalike("--json", "demo", "--check", "--port", "0", home=home)
    assert done.returncode == 0, f"lookalike demo --check failed:\n{done.stderr[-6000:]}\n{done.stdout[-3000:]}"
    return Demo(home, json.loads(done.stdout))


@pytest.fixture(scope="session")
def served_demo(demo_home):
    """A real server process over the demo's live release."""
    from lookalike.contracts.settings import load_settings
    from lookalike.line.server_process import start_server

    server = start_server(load_settings(home=demo_home.home), port=0)
    try:
        server.wait_ready()
        yield ServedDemo(server.url, demo_home.home)
    finally:
        server.stop()
