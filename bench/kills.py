"""Kill -9 at random moments: workers, supervisor, server, log writer, Kafka's broker. Nothing lost, nothing doubled.

The same recorded changes go twice through real processes, each time on a copy of the same home: once undisturbed, once
with a SIGKILL every few seconds and whatever was killed started again. Then tables and answers of both must be equal:
SILVER and EMBEDDINGS row for row, the archive without a doubled change, 200 searches with the same hits and scores.
While it runs, a watcher asks for items over and over: no version may ever go down.

    python bench/kills.py --home var --kills 20
    python bench/kills.py --home var --kills 20 --log kafka
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
from comparison import SCORE_TOLERANCE, differences, doubled_changes, queries_for, rows_of
from harness import Process, children_of, command, command_line, copy_home, server_ready, wait_until
from traffic import open_traffic, pictures_needed, record

from lookalike.contracts.change import Topic
from lookalike.contracts.settings import Settings, load_settings
from lookalike.contracts.tables import EMBEDDINGS, REFUSED, SILVER
from lookalike.line.kafka_broker import start_broker
from lookalike.line.server_process import free_port
from lookalike.storage.atomic import write_bytes
from lookalike.storage.log.opening import open_log
from lookalike.storage.log.port import Log, LogUnavailable, Message

TARGETS = ("enrich", "archive", "supervisor", "server", "writer")
SECONDS_PER_KILL = 12.0
SHARE_UNDER_FIRE = 0.95
HOLD = ".hold"
"""While this file stands beside the progress, the last changes wait: a writer that is done cannot be killed."""
DRAIN_SECONDS = 300.0


def write_log(home: Path, options: list[str], events: Path, progress: Path, rate: float) -> None:
    """The log's writer, a process of its own: one change after the other, its place kept after each acknowledgement."""
    log = open_log(settings_of(home, options))
    lines = events.read_text().splitlines()
    place = int(progress.read_text()) if progress.is_file() else 0
    began, first = time.monotonic(), place
    hold = progress.with_suffix(HOLD)
    while place < len(lines):
        if place >= int(SHARE_UNDER_FIRE * len(lines)) and hold.exists():
            time.sleep(0.05)
            continue
        time.sleep(max(0.0, began + (place - first) / rate - time.monotonic()))
        try:
            log.append(Topic.CHANGES, [Message(json.loads(lines[place])["item_id"].encode(), lines[place].encode())])
        except LogUnavailable:
            time.sleep(0.2)
            continue
        place += 1
        write_bytes(progress, str(place).encode())


class Run:
    """One pass of the recorded changes through real processes."""

    def __init__(self, home: Path, options: list[str], events: Path, rate: float, broker: "Broker | None") -> None:
        self.home, self.options, self.events, self.broker = home, options, events, broker
        self.settings = settings_of(home, options)
        port = free_port("127.0.0.1")
        self.url = f"http://127.0.0.1:{port}"
        self.progress = home / "writer.progress"
        writer = [sys.executable, __file__, "--write", str(home), str(events), str(self.progress), str(rate)]
        self.processes = {
            "server": Process(command(self.settings, options, ["serve", "--port", str(port)]), home / "logs/serve.log"),
            "supervisor": Process(command(self.settings, options, ["stream"]), home / "logs/stream.log"),
            "writer": Process(
                writer + [word for option in options for word in ("--set", option)], home / "logs/writer.log"
            ),
        }
        self.killed: Counter[str] = Counter()
        self.backwards: list[str] = []
        self._over = threading.Event()

    def go(self, kills: int, seed: int) -> None:
        """Send everything, killing on the way; returns when every change is dealt with and archived."""
        hold = self.progress.with_suffix(HOLD)
        hold.touch()
        for name in ("server", "supervisor", "writer"):
            self.processes[name].start()
        wait_until("the server is ready", lambda: server_ready(self.url), 120)
        watcher = threading.Thread(target=self._watch)
        watcher.start()
        dice = random.Random(seed)
        targets = TARGETS if self.broker is None else (*TARGETS, "broker")
        for number in range(kills):
            # By what is sent, not by the clock: every kill then falls among changes, however slow the machine is.
            self._wait_until_sent((number + dice.random()) / kills)
            target = targets[number] if number < len(targets) else dice.choice(targets)
            wait_until(f"{target} runs", lambda target=target: self._kill(target), 120)  # it may just be starting
        hold.unlink()
        wait_until("every change is sent", self._sent, 3_600, every=1.0)
        wait_until("every change is dealt with and archived", self._settled, DRAIN_SECONDS, every=1.0)
        self._over.set()
        watcher.join()

    def stop(self) -> None:
        """End what runs."""
        self._over.set()
        for name in ("writer", "supervisor", "server"):
            self.processes[name].stop()

    def _kill(self, target: str) -> bool:
        """SIGKILL, and start again what nobody else does (the supervisor starts its workers); whether it hit."""
        if target in ("enrich", "archive"):
            hit = False
            for pid in children_of(self.processes["supervisor"].pid):
                if target in command_line(pid):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        hit = True
        else:
            process = self.broker if target == "broker" else self.processes[target]
            assert process is not None
            hit = process.running
            if hit:
                process.kill()
                process.start()
        self.killed[target] += hit
        if target == "server":
            wait_until("the server is ready again", lambda: server_ready(self.url), 120)
        return hit

    def _wait_until_sent(self, share: float) -> None:
        """Until this share of the changes that are sent under fire is in the log."""
        wanted = int(share * len(self.events.read_text().splitlines()) * SHARE_UNDER_FIRE)
        wait_until("the writer gets on", lambda: self._sent() or self._written() >= wanted, 600, every=0.1)

    def _written(self) -> int:
        return int(self.progress.read_text()) if self.progress.is_file() else 0

    def _sent(self) -> bool:
        """Whether all is sent; a writer that ended before is started again."""
        if self.processes["writer"].running:
            return False
        if self._written() < len(self.events.read_text().splitlines()):
            self.processes["writer"].start()
            return False
        return True

    def _settled(self) -> bool:
        with suppress(LogUnavailable):
            log = open_log(self.settings)
            try:
                return _behind(log, "enrich", Topic.CHANGES) == 0 and all(
                    _behind(log, group, topic) == 0
                    for group, topic in (
                        ("enrich", Topic.LATER),
                        ("archive", Topic.UPDATES),
                        ("archive", Topic.REFUSED),
                    )
                )
            finally:
                log.close()
        return False

    def _watch(self) -> None:
        """Ask for items that change; note a version that went down."""
        items = sorted({json.loads(line)["item_id"] for line in self.events.read_text().splitlines()})
        dice, seen = random.Random(1), dict.fromkeys(items, -1)
        with httpx.Client(base_url=self.url, timeout=10.0) as client:
            while not self._over.is_set():
                item = dice.choice(items)
                with suppress(httpx.HTTPError):
                    answer = client.get(f"/v1/items/{quote(item, safe='')}")
                    if answer.status_code == 200:
                        version = answer.json()["version"]
                        if version < seen[item]:
                            self.backwards.append(f"{item}: {version} after {seen[item]}")
                        seen[item] = max(version, seen[item])
                time.sleep(0.02)

    def answers(self, queries: list[dict[str, Any]]) -> list[list[tuple[str, float]]]:
        """Hits of each query."""
        found = []
        with httpx.Client(base_url=self.url, timeout=30.0) as client:
            for query in queries:
                answer = client.post("/v1/search", json=query)
                answer.raise_for_status()
                found.append([(hit["item_id"], hit["score"]) for hit in answer.json()["hits"]])
        return found


def _behind(log: Log, group: str, topic: Topic) -> int:
    done = log.committed(group, topic)
    return sum(
        max(0, log.high_watermark(topic, place) - done.get(place, log.low_watermark(topic, place)))
        for place in range(log.partitions)
    )


def settings_of(home: Path, options: list[str]) -> Settings:
    """Settings of a copied home."""
    from lookalike.cli.main import parse_assignments

    return load_settings(home=home, **parse_assignments(options))


def compare(calm: Run, killed: Run, queries: int) -> list[str]:
    """Everything in which the two runs differ."""
    found = [f"a version went down: {each}" for each in killed.backwards[:5]]
    asked = queries_for(queries)
    for query, one, other in zip(asked, calm.answers(asked), killed.answers(asked), strict=True):
        same = [hit for hit, _ in one] == [hit for hit, _ in other]
        if not same or not np.allclose([s for _, s in one], [s for _, s in other], atol=SCORE_TOLERANCE):
            found.append(f"{query} is answered otherwise")
    for run in (calm, killed):
        run.stop()
        found += doubled_changes(run.settings)
        fold(run.settings)
    for contract in (SILVER, EMBEDDINGS):
        found += differences(calm.settings, killed.settings, contract)
    refused = [
        Counter((row["item_id"], row["reason"]) for row in rows_of(run.settings, REFUSED).values())
        for run in (calm, killed)
    ]
    return found + ([] if refused[0] == refused[1] else [f"refused: {refused[0] ^ refused[1]}"])


def fold(settings: Settings) -> None:
    """The nightly merge, as the command line runs it."""
    import subprocess

    done = subprocess.run(command(settings, [], ["fold"]), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"lookalike fold failed on {settings.home}:\n{done.stderr[-3000:]}")


class Broker:
    """A real Kafka broker on a port of its own: the Java process itself, so that a SIGKILL hits it and no wrapper."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._broker = folder, start_broker(folder)

    @property
    def options(self) -> list[str]:
        """The settings that lead to it."""
        return ["log.kind=kafka", f"log.brokers={self._broker.brokers}"]

    @property
    def running(self) -> bool:
        """Whether it runs now."""
        return self._broker.process.poll() is None

    def start(self) -> None:
        """Start it again on its data and port; clients wait for it by themselves."""
        self._broker = start_broker(self._folder, port=self._broker.port, wait=False)

    def kill(self) -> None:
        """SIGKILL."""
        self._broker.kill()

    def stop(self) -> None:
        """End it in good order."""
        self._broker.stop()


def main() -> None:
    """See the module's text."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--home", type=Path, default=Path("var"))
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--changes", type=int, default=4_000)
    options.add_argument("--queries", type=int, default=200)
    options.add_argument("--seed", type=int, default=11)
    options.add_argument("--log", choices=("sqlite", "kafka"), default="sqlite")
    options.add_argument("--set", action="append", default=[], dest="settings", help="section.key=value")
    options.add_argument("--keep", type=Path, help="work in this folder and leave it")
    options.add_argument("--write", nargs=4, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.write:
        home, events, progress, rate = given.write
        write_log(Path(home), given.settings, Path(events), Path(progress), float(rate))
        return
    folder = given.keep or Path(tempfile.mkdtemp(prefix="lookalike-kills-"))
    try:
        found = run_both(given, folder)
    finally:
        if given.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(found[:20]) if found else "tables and answers are equal")
    sys.exit(1 if found else 0)


def run_both(given: argparse.Namespace, folder: Path) -> list[str]:
    """Undisturbed, then with kills; the differences."""
    calm_home, killed_home = copy_home(given.home, folder / "calm"), folder / "killed"
    traffic = open_traffic(load_settings(home=calm_home), pictures_needed(given.changes), given.seed)
    events = folder / "changes.jsonl"
    events.write_text(
        "".join(json.dumps(each.body, ensure_ascii=False) + "\n" for each in record(traffic, given.changes))
    )
    copy_home(calm_home, killed_home)
    rates = {"calm": 400.0, "killed": given.changes / (given.kills * SECONDS_PER_KILL + 10)}
    runs: dict[str, Run] = {}
    brokers: list[Broker | None] = []
    try:
        for name, home in (("calm", calm_home), ("killed", killed_home)):
            broker = Broker(folder / f"broker-{name}") if given.log == "kafka" else None
            brokers.append(broker)
            options = given.settings + (broker.options if broker else [])
            runs[name] = Run(home, options, events, rates[name], broker)
            began = time.monotonic()
            runs[name].go(0 if name == "calm" else given.kills, given.seed)
            told = dict(runs[name].killed)
            print(f"{name}: {given.changes} changes in {time.monotonic() - began:.0f} s, killed {told}", flush=True)
        return compare(runs["calm"], runs["killed"], given.queries)
    finally:
        for run in runs.values():
            run.stop()
        for broker in brokers:
            if broker is not None:
                broker.stop()


if __name__ == "__main__":
    main()
