"""Freshness under load: a producer changes the catalogue, searchers search, and probes see when each change is found.

Real processes on one machine: `lookalike serve`, `lookalike stream`, a producer, a searcher at a fixed rate whatever
the answers take, and probes that ask the server over HTTP until they see a change (every 20 ms; a sample of all
changes). The server's own histogram over all changes is printed beside. At the end the server is compared with the
producer's oracle: no change lost, none served older after newer. Works on a copy of a home that has a live release.

    python bench/stream_freshness.py --home var --seconds 600 --check     # exits 1 when a bar is missed
    python bench/stream_freshness.py --home var --rates 300,400,600 --seconds 60   # the highest rate that holds
    python bench/stream_freshness.py --home var --seconds 1800 --set stream.recycle_minutes=8      # a soak
"""

import argparse
import json
import multiprocessing
import os
import queue
import re
import shutil
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from harness import (
    Process,
    children_of,
    command,
    command_line,
    copy_home,
    cpu_seconds,
    memory_of,
    server_ready,
    wait_until,
)  # fmt: skip
from phases import Phase, histogram, missed, summary
from traffic import Change, Expected, Traffic, open_traffic, pictures_needed, send

from lookalike.contracts.change import SCHEMA, Topic
from lookalike.contracts.settings import Settings, load_settings
from lookalike.line.server_process import free_port
from lookalike.storage.log.opening import open_log
from lookalike.storage.log.port import Message

PROBES_PER_SECOND = 0.6
PROBE_EVERY_SECONDS = 0.02
PROBE_SECONDS = 30.0
DRAIN_SECONDS = 240.0
COMPARE_SECONDS = 60.0
PROBE_THREADS = 12
CLIENT_NICE = 5
WORDS = ("red apple", "dog", "guitar", "pizza", "bicycle", "umbrella", "rocket", "tree", "fish", "cup of tea", "clock")


def probe(url: str, kind: str, item: str, version: int, happened: float) -> float | None:
    """Seconds from `happened` until the server shows the change; None when it does not within PROBE_SECONDS."""
    with httpx.Client(base_url=url, timeout=10.0) as client:
        while time.time() - happened < PROBE_SECONDS:
            if _shows(client, kind, item, version):
                return time.time() - happened
            time.sleep(PROBE_EVERY_SECONDS)
    return None


def _shows(client: httpx.Client, kind: str, item: str, version: int) -> bool:
    address = f"/v1/items/{quote(item, safe='')}"
    if kind == "gone":
        return client.get(address).status_code == 404
    if kind == "picture":
        query = {"parts": [{"item_id": item}], "k": 1, "exclude_query_items": False}
        answer = client.post("/v1/search", json=query)
        hits = answer.json()["hits"] if answer.status_code == 200 else []
        return bool(hits) and hits[0]["item_id"] == item and hits[0]["product"]["version"] >= version
    answer = client.get(address)
    return answer.status_code == 200 and answer.json()["version"] >= version


def searcher(url: str, per_second: float, results: Any, stop: Any) -> None:
    """Searches at fixed times, each in a thread of its own: a slow answer does not thin out the questions."""

    def one(number: int) -> tuple[float, float, float, str]:
        started, inside = time.time(), 0.0
        try:
            answer = client.post("/v1/search", json={"parts": [{"text": WORDS[number % len(WORDS)]}], "k": 24})
            seconds = time.time() - started
            problem = "" if answer.status_code == 200 else f"{answer.status_code} {answer.text[:200]}"
            inside = answer.json()["took_ms"]["total"] / 1e3 if not problem else 0.0
        except httpx.HTTPError as error:
            seconds, problem = time.time() - started, repr(error)
        return started, seconds, inside, problem

    with httpx.Client(base_url=url, timeout=30.0) as client, ThreadPoolExecutor(16) as pool:
        number, began = 0, time.monotonic()
        while not stop.is_set():
            future = pool.submit(one, number)
            future.add_done_callback(lambda done: results.put(done.result()))
            number += 1
            time.sleep(max(0.0, began + number / per_second - time.monotonic()))


def producer(home: str, rate: float, seconds: float, traffic: Traffic, probes: Any, done: Any) -> None:
    """Sends traffic and names a sample of it for probing."""
    os.nice(CLIENT_NICE)  # in a shop the producers are on other machines
    settings, sent, next_probe = load_settings(**json.loads(home)), 0, 0.0
    wanted = ["attributes", "gone", "picture"]
    for batch in send(settings, traffic, rate, seconds):
        sent += len(batch)
        for change in batch:
            kind = probe_kind(change)
            if kind == wanted[0] and time.monotonic() >= next_probe:
                happened = datetime.fromisoformat(change.body["event_time"]).timestamp()
                probes.put((kind, change.item_id, change.body["version"], happened))
                wanted.append(wanted.pop(0))
                next_probe = time.monotonic() + 1 / PROBES_PER_SECOND
    done.put((sent, len(traffic.pictures), {item: asdict(known) for item, known in traffic.items.items()}))


def probe_kind(change: Change) -> str:
    """Class of a change as the bars name them."""
    return {"attributes": "attributes", "delete": "gone", "upsert": "picture"}.get(change.kind, "other")


class Bench:
    """One server and one stream over a copy of a home."""

    def __init__(self, home: Path, options: list[str], searches: float) -> None:
        self.settings = settings_of(home, options)
        port = free_port("127.0.0.1")
        self.url, self.searches = f"http://127.0.0.1:{port}", searches
        self.server = Process(command(self.settings, options, ["serve", "--port", str(port)]), home / "logs/serve.log")
        self.stream = Process(command(self.settings, options, ["stream"]), home / "logs/stream.log")
        self.log = open_log(self.settings)
        self.context = multiprocessing.get_context("spawn")
        self.overrides = json.dumps({"home": str(home)} | nested(options))

    def start(self) -> None:
        """Start both and wait until a change comes through."""
        self.server.start()
        wait_until("the server is ready", lambda: server_ready(self.url), 120)
        self.stream.start()
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        first = {
            "schema": SCHEMA,
            "kind": "delete",
            "item_id": "warm-up",
            "version": 1,
            "event_time": at,
            "source": "bench",
        }
        self.log.append(Topic.CHANGES, [Message(b"warm-up", json.dumps(first).encode())])
        wait_until("the first change is dealt with", lambda: self.lag() == 0, 180)

    def stop(self) -> dict[str, int]:
        """Stop both; exit codes."""
        return {"stream": self.stream.stop(), "server": self.server.stop()}

    def workers(self) -> dict[str, int]:
        """Process id of each worker by name."""
        found = {}
        for pid in children_of(self.stream.pid):
            match = re.search(r"\b(enrich|archive)\b", command_line(pid))
            if match:
                found[match[1]] = pid
        return found

    def lag(self) -> int:
        """Changes that the job has not dealt with yet, those among them that it parked for a second try."""
        return sum(
            self.log.high_watermark(topic, partition) - self.log.committed("enrich", topic).get(partition, 0)
            for topic in (Topic.CHANGES, Topic.LATER)
            for partition in range(self.log.partitions)
        )

    def run(self, phase: Phase, traffic: Traffic | None) -> dict[str, Any]:
        """Search, and send when there is traffic; returns the oracle of what was sent."""
        results, probes, done = self.context.Queue(), self.context.Queue(), self.context.Queue()
        stop = self.context.Event()
        processes = [self.context.Process(target=searcher, args=(self.url, self.searches, results, stop))]
        if traffic is not None:
            arguments = (self.overrides, phase.rate, phase.seconds, traffic, probes, done)
            processes.append(self.context.Process(target=producer, args=arguments))
        for process in processes:
            process.start()
        watcher = threading.Thread(target=self._watch, args=(phase, stop))
        watcher.start()
        oracle: dict[str, Any] = {}
        with ThreadPoolExecutor(PROBE_THREADS) as pool:
            waiting = []
            deadline = time.monotonic() + phase.seconds
            while time.monotonic() < deadline or (traffic is not None and done.empty()):
                try:
                    asked = probes.get(timeout=0.2)
                    waiting.append((asked, pool.submit(probe, self.url, *asked)))
                except queue.Empty:
                    pass
            if traffic is not None:
                phase.sent, left, oracle = done.get()
                del traffic.pictures[left:]
            phase.lag_at_end = self.lag()
            for asked, future in waiting:
                seconds = future.result()
                if seconds is None:
                    phase.unseen.append(f"{asked[0]} {asked[1]}")
                else:
                    phase.seen[asked[0]].append(seconds)
        stop.set()
        for process in processes:
            process.join(30)
        watcher.join()
        while not results.empty():
            started, seconds, inside, problem = results.get()
            phase.searches.append(seconds)
            phase.inside.append(inside)
            phase.search_times.append(started)
            if problem:
                phase.failed.append(problem)
        return oracle

    def _watch(self, phase: Phase, stop: Any) -> None:
        pids = lambda: {"server": self.server.pid, "stream": self.stream.pid} | self.workers()  # noqa: E731
        first = {name: (pid, cpu_seconds(pid), time.monotonic()) for name, pid in pids().items()}
        while not stop.wait(5.0):
            for name, pid in pids().items():
                phase.memory.setdefault(name, []).append(memory_of(pid))
        for name, (pid, before, since) in first.items():
            used = cpu_seconds(pid) - before
            if used > 0:
                phase.cpu[name] = round(used / (time.monotonic() - since), 3)

    def compare(self, oracle: dict[str, Any], count: int) -> list[str]:
        """Differences between the server and the oracle over the items that changed last.

        The server follows the log by itself: what differs is asked again until it agrees or COMPARE_SECONDS are over.
        """
        wait_until("the job has dealt with every change", lambda: self.lag() == 0, DRAIN_SECONDS)
        newest = sorted(oracle.items(), key=lambda entry: entry[1]["version"], reverse=True)[:count]
        problems: dict[str, str | None] = dict.fromkeys(item for item, _ in newest)
        deadline = time.monotonic() + COMPARE_SECONDS
        with httpx.Client(base_url=self.url, timeout=30.0) as client:
            while True:
                told = {item: _differs(client, item, Expected(**oracle[item])) for item in problems}
                problems = {item: problem for item, problem in told.items() if problem}
                if not problems or time.monotonic() > deadline:
                    return [str(problem) for problem in problems.values()]
                time.sleep(1.0)


def _differs(client: httpx.Client, item: str, known: Expected) -> str | None:
    answer = client.get(f"/v1/items/{quote(item, safe='')}")
    if not known.alive:
        return None if answer.status_code == 404 else f"{item} was deleted but is shown"
    if answer.status_code != 200:
        return f"{item} is not shown ({answer.status_code})"
    shown = answer.json()
    pairs = {"price": known.price, "stock": known.stock, "title": known.title}
    wrong = {name: (shown[name], value) for name, value in pairs.items() if shown[name] != value}
    return f"{item}: {wrong}" if wrong else None


def nested(options: list[str]) -> dict[str, Any]:
    """`section.key=value` pairs as load_settings takes them."""
    from lookalike.cli.main import parse_assignments

    return parse_assignments(options)


def settings_of(home: Path, options: list[str]) -> Settings:
    """Settings of the copied home."""
    return load_settings(home=home, **nested(options))


def main() -> None:
    """See the module's text."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--home", type=Path, default=Path("var"))
    options.add_argument("--seconds", type=float, default=600.0)
    options.add_argument("--rest-seconds", type=float, default=60.0)
    options.add_argument("--rates", default="200", help="changes a second; several by comma, one phase each")
    options.add_argument("--searches", type=float, default=20.0, help="searches a second")
    options.add_argument("--set", action="append", default=[], dest="settings", help="section.key=value")
    options.add_argument("--out", type=Path, help="write all figures to this JSON file")
    options.add_argument("--keep", type=Path, help="work in this folder and leave it")
    options.add_argument("--check", action="store_true", help="exit 1 when a bar is missed")
    given = options.parse_args()
    folder = given.keep or Path(tempfile.mkdtemp(prefix="lookalike-fresh-"))
    try:
        failures = measure(given, copy_home(given.home, folder / "home"))
    finally:
        if given.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(failures) if failures else "every bar holds")
    sys.exit(1 if failures and given.check else 0)


def measure(given: argparse.Namespace, home: Path) -> list[str]:
    """All phases; the bars missed."""
    rates = [float(rate) for rate in given.rates.split(",")]
    bench = Bench(home, given.settings, given.searches)
    traffic = open_traffic(bench.settings, pictures_needed(int(sum(rates) * given.seconds)))
    figures: list[dict[str, Any]] = []
    failures: list[str] = []
    bench.start()
    try:
        rest = Phase("at rest, before", 0, given.rest_seconds)
        bench.run(rest, None)
        figures.append(summary(rest))
        print(json.dumps(figures[-1]), flush=True)
        for rate in rates:
            phase = Phase(f"{rate:.0f} changes/s", rate, given.seconds)
            oracle = bench.run(phase, traffic)
            differences = bench.compare(oracle, 1_000)
            figures.append(summary(phase) | {"differences": differences[:5]})
            print(json.dumps(figures[-1]), flush=True)
            failures += [f"{phase.name}: {problem}" for problem in missed(phase, rest)]
            failures += [f"{phase.name}: lost or wrong: {each}" for each in differences[:5]]
            traffic = Traffic(
                {item: Expected(**known) for item, known in oracle.items()},
                traffic.pictures, traffic.seed + len(figures),
            )  # fmt: skip
        after = Phase("at rest, after", 0, given.rest_seconds)
        bench.run(after, None)
        figures.append(summary(after))
        print(json.dumps(figures[-1]), flush=True)
        print(json.dumps({"server_histogram": histogram(bench.url)}), flush=True)
        figures.append({"server_histogram": histogram(bench.url), "at": datetime.now(UTC).isoformat()})
    finally:
        exits = bench.stop()
    if any(code not in (0, -15) for code in exits.values()):
        failures.append(f"exit codes {exits}; stream's log ends:\n{bench.stream.tail()}")
    if given.out:
        given.out.write_text(json.dumps(figures, indent=2) + "\n")
    return failures


if __name__ == "__main__":
    main()
