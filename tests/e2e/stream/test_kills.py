"""SIGKILL at random moments, in small; bench/kills.py is the whole of it."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
BENCH = Path(__file__).parents[3] / "bench"


def test_killed_processes_lose_nothing_and_double_nothing(demo_home, tmp_path):
    command = [sys.executable, str(BENCH / "kills.py"), "--home", str(demo_home.home), "--keep", str(tmp_path / "kept")]
    command += ["--kills", "5", "--changes", "500", "--queries", "60", "--set", "stream.archive_seconds=1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1_200)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
