"""How long a roll-back takes: from the start of the command to the first answer from the old release.

Works on a copy of a home with a live release. A second release is made of the first one's files under another
manifest, so that both have the catalogue's full size; a real server is started as a process of its own, `lookalike
rollback` is run as a person would run it, and the server is searched all the while.

    python bench/rollback.py --home var --rounds 5
"""

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
from harness import Process, command, copy_home, server_ready, wait_until

from lookalike.contracts.manifest import MANIFEST_NAME, Manifest
from lookalike.contracts.settings import Settings
from lookalike.contracts.verdict import Check, Verdict
from lookalike.line.server_process import free_port
from lookalike.releases.registry import Registry

ACTOR = "bench"
HOST = "127.0.0.1"
PAUSE_SECONDS = 0.01


@dataclass
class Round:
    """Seconds from the start of the command; `longest_answer`: the slowest search meanwhile."""

    first_answer: float
    command: float
    longest_answer: float


def second_release(settings: Settings) -> tuple[str, str]:
    """A copy of the live release under another manifest, judged; (the live version, the new one)."""
    registry = Registry(settings)
    live = registry.live()
    if live is None or live.verdict is None:
        raise SystemExit(f"{settings.home} has no live release: run `make demo CHECK=1` first")
    folder = settings.releases_root / "bench-copy"
    shutil.copytree(live.index_dir, folder)
    manifest = Manifest.read(folder).model_copy(update={"created_at": datetime.now(UTC)})
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json())
    release = registry.register(folder, live.encoder_dir, ACTOR)
    check = Check(name="copy of what is live", passed=True, observed="the same files", bar="the same files")
    verdict = Verdict(at=datetime.now(UTC), manifest_sha256=manifest.sha256, checks=(check,))
    registry.record_verdict(release.version, verdict, ACTOR)
    return live.version, release.version


def answered_by(http: httpx.Client) -> str:
    """The release of one search."""
    answer = http.post("/v1/search", json={"parts": [{"text": "red apple"}], "k": 10})
    return str(answer.raise_for_status().json()["release"])


def measure(http: httpx.Client, settings: Settings, old: str) -> Round:
    """One roll-back, searched all the while."""
    longest, started = 0.0, time.monotonic()
    running = subprocess.Popen(command(settings, [], ["rollback"]), stdout=subprocess.DEVNULL)
    ended: float | None = None
    while True:
        asked = time.monotonic()
        release = answered_by(http)
        longest = max(longest, time.monotonic() - asked)
        ended = ended or (time.monotonic() - started if running.poll() is not None else None)
        if release == old:
            break
        time.sleep(PAUSE_SECONDS)
    first = time.monotonic() - started
    if running.wait() != 0:
        raise SystemExit(f"rollback ended with exit code {running.returncode}")
    return Round(first, ended or time.monotonic() - started, longest)


def run(home: Path, rounds: int) -> list[Round]:
    """All rounds on one server; between them the newer release is promoted again."""
    settings = Settings(home=home)
    old, new = second_release(settings)
    registry, port = Registry(settings), free_port(HOST)
    server = Process(command(settings, [], ["serve", "--host", HOST, "--port", str(port)]), home / "logs" / "bench.log")
    server.start()
    url, found = f"http://{HOST}:{port}", []
    try:
        wait_until("server", lambda: server_ready(url), 120.0)
        with httpx.Client(base_url=url, timeout=30.0) as http:
            for _ in range(rounds):
                registry.promote(new, ACTOR)
                wait_until("promotion", lambda: answered_by(http) == new, 60.0, every=0.05)
                found.append(measure(http, settings, old))
    finally:
        server.stop()
    return found


def main() -> None:
    """Print the rounds and their median as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path("var"), help="a home with a live release; it is copied")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lookalike-rollback-") as folder:
        found = run(copy_home(arguments.home, Path(folder) / "home"), arguments.rounds)
    firsts = [each.first_answer for each in found]
    print(json.dumps({
        "rounds": [{key: round(value, 3) for key, value in asdict(each).items()} for each in found],
        "first_answer_median_s": round(statistics.median(firsts), 3),
        "first_answer_worst_s": round(max(firsts), 3),
    }, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
