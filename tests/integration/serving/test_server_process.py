"""The server as a process on its own: it says where it listens, answers before any release, ends on a signal."""

import os
import signal
import subprocess
import sys

import httpx
import pytest

pytestmark = pytest.mark.slow

PROGRAM = (
    "from lookalike.contracts.settings import load_settings; from lookalike.serving.server import serve; "
    "serve(load_settings())"
)


@pytest.fixture
def start(tmp_path):
    running = []

    def start(**variables):
        settings = {"LOOKALIKE_HOME": str(tmp_path / "var"), "LOOKALIKE_SERVING__PORT": "0"} | variables
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], env=os.environ | settings, cwd=tmp_path,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def address(process):
    line = process.stdout.readline()
    assert line.startswith("Lookalike serves on http://127.0.0.1:"), process.communicate()[1]
    return line.split()[3]


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_without_a_release_and_ends_on_a_signal(start, ending):
    process = start()
    url = address(process)
    with httpx.Client(base_url=url, timeout=60) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/").status_code == 200
        refused = client.post("/v1/search", json={"parts": [{"text": "apple"}]})
        assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
        assert refused.headers["content-type"] == "application/problem+json"
        assert "server" not in refused.headers
    process.send_signal(ending)
    output, errors = process.communicate(timeout=60)
    assert process.returncode in (0, -ending)
    assert "Traceback" not in errors and output == ""


def test_a_taken_port_is_a_clear_error(start):
    port = address(start()).rsplit(":", 1)[1]
    second = start(LOOKALIKE_SERVING__PORT=port)
    _, errors = second.communicate(timeout=120)
    assert second.returncode != 0 and f"port {port} of 127.0.0.1 is in use" in errors
