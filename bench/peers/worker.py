"""One engine at work, in a process of its own and in its own environment: it builds, or it opens and searches.

Standard library, numpy and the engine only. Commands come as JSON lines on standard input, answers go as JSON lines to
what was standard output; whatever an engine prints goes to standard error.
"""

import argparse
import importlib
import json
import os
import signal
import sys
import threading
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from adapters.items import Items

WARM_UP = 20
BATCH = 100
LEAST = 100
"""Queries of each kind that are asked even when the time is over: recall is of those that were asked."""
LOOKED, LOOKED_LEAST = 100, 30
"""Queries of each kind, and the least of them, where a setting is only looked at."""


def load(adapter: str, options: str) -> Any:
    """An adapter by module:class."""
    module, name = adapter.split(":")
    return getattr(importlib.import_module(f"adapters.{module}"), name)(json.loads(options))


def run(adapter: Any, queries: dict[str, Any], k: int, seconds: float, size: int, least: int = LEAST) -> dict[str, Any]:
    """Search all queries, kinds in turn, `size` in one call, for about `seconds`: times and rows by kind."""
    chunks = {
        kind: [these[start : start + size] for start in range(0, len(these), size)] for kind, these in queries.items()
    }
    times: dict[str, list[float]] = {kind: [] for kind in queries}
    rows: dict[str, list[Any]] = {kind: [] for kind in queries}
    ends = time.perf_counter() + seconds
    for at in range(max(len(each) for each in chunks.values())):
        for kind, these in chunks.items():
            if at >= len(these):
                continue
            started = time.perf_counter()
            found = adapter.search(these[at], k)
            times[kind].append(time.perf_counter() - started)
            rows[kind].append(found)
        if time.perf_counter() > ends and (at + 1) * size >= least:
            break
    return {kind: (np.array(times[kind]), np.concatenate(rows[kind])) for kind in queries}


def figures(times: Any, queries: int) -> dict[str, float]:
    """Of calls that together answered `queries`."""
    per_query = times * 1_000 * len(times) / queries
    p50, p95, p99 = np.percentile(per_query, [50, 95, 99])
    mean = float(times.sum() * 1_000 / queries)
    return {"queries": queries, "mean_ms": mean, "p50_ms": float(p50), "p95_ms": float(p95), "p99_ms": float(p99)}


def measure(adapter: Any, queries: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """One setting, one query at a time and batched; rows go to the file `asked["rows"]`."""
    warm_up(adapter, queries, asked)
    return answered(adapter, queries, asked, {"single": 1, "batched": BATCH}, LEAST)


def look(adapter: Any, queries: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """One setting and a few queries, one at a time."""
    some = {kind: these[:LOOKED] for kind, these in queries.items()}
    warm_up(adapter, {kind: these[:1] for kind, these in some.items()}, asked)
    return answered(adapter, some, asked, {"single": 1}, LOOKED_LEAST)


def warm_up(adapter: Any, queries: dict[str, Any], asked: dict[str, Any]) -> None:
    """The setting is used from now on, and was."""
    adapter.use(asked["setting"])
    for these in queries.values():
        for query in these[:WARM_UP]:
            adapter.search(query[None], asked["k"])


def read_files(adapter: Any, queries: dict[str, Any], asked: dict[str, Any]) -> None:
    """Ask all queries once, untimed, so that what they read of files is in memory."""
    adapter.use(asked["setting"])
    run(adapter, queries, asked["k"], asked["seconds"], BATCH)


def answered(
    adapter: Any, queries: dict[str, Any], asked: dict[str, Any], ways: dict[str, int], least: int
) -> dict[str, Any]:
    """Figures by way and kind, each way with so many queries in a call; rows go to a file."""
    answer: dict[str, Any] = {"setting": asked["setting"]}
    kept = {}
    for way, size in ways.items():
        found = run(adapter, queries, asked["k"], asked["seconds"], size, least)
        answer[way] = {kind: figures(times, len(rows)) for kind, (times, rows) in found.items()}
        together = np.concatenate([times for times, _ in found.values()])
        answer[way]["both"] = figures(together, sum(len(rows) for _, rows in found.values()))
        kept |= {f"{way}.{kind}": rows for kind, (_, rows) in found.items()}
    np.savez(asked["rows"], **kept)
    return answer


def versions(names: list[str]) -> dict[str, str]:
    """Of installed packages."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def end_with_parent() -> None:
    """Whoever asked is gone: nothing may go on, neither a build nor a server that was started."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Answer commands until `stop` or the end of input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--adapter", required=True)
    parser.add_argument("--options", default="{}")
    parser.add_argument("--core", type=int, help="the one core that this process and its children may use")
    arguments = parser.parse_args()
    end_with_parent()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    if arguments.core is not None:
        os.sched_setaffinity(0, {arguments.core})  # before the engine counts its cores
    adapter = load(arguments.adapter, arguments.options)
    queries: dict[str, Any] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        answer: dict[str, Any] = {}
        match asked["do"]:
            case "versions":
                answer = versions(asked["names"])
            case "build":
                adapter.build(Items(**asked["items"]), Path(asked["folder"]))
            case "load":
                queries = {kind: np.load(path).astype(np.float32) for kind, path in asked["queries"].items()}
                answer = {"reads_files": adapter.reads_files, "finer": adapter.finer}
            case "open":
                started = time.monotonic()
                adapter.open(Path(asked["folder"]))
                answer = {"seconds": round(time.monotonic() - started, 3), "held": adapter.held}
                answer |= {"settings": adapter.settings(), "chosen": adapter.chosen, "what": adapter.describe()}
            case "look":
                answer = look(adapter, queries, asked)
            case "read files":
                read_files(adapter, queries, asked)
            case "measure":
                answer = measure(adapter, queries, asked)
            case "stop":
                adapter.close()
        print(json.dumps(answer), file=answers)
        if asked["do"] == "stop":
            break


if __name__ == "__main__":
    main()
