"""Searches beside changes: rate and latency of searches at 0, 100, 300 and 1,000 changes a second, and what they find.

    python bench/updates.py var/bench/scale/1000000-real
    python bench/updates.py var/bench/scale/1000000-real --mix inserts --repeats 2 --sizes

The folder is one that `bench/scale.py` built. A process of its own appends changes to a log; overlay, its follower and
the engine are those of `lookalike serve`, put together as it does, with one BLAS thread and its switching of threads.
Left out are HTTP and the encoder (a query's text names a stored vector), so that changes weigh the more. Rates take
turns in short rounds: noise and the growth of the overlay meet all alike. Then the overlay is grown to --sizes changed
items. At last a sample of answers is compared with brute force over rows and changes; exit code 1 when one is wrong.
For comparison: Milvus on 16 cores answers 2,747, 306 and 156 queries a second at 0, 500 and 1,000 inserts a second
(VectorDBBench, leaderboard_v2_streaming.json; the shape of its load differs).
"""

import argparse
import itertools
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numbered_source import QUERIES_NAME
from prometheus_client import CollectorRegistry
from search_latency import machine
from threadpoolctl import threadpool_limits
from update_server import Served
from update_traffic import MIXES, Producer
from update_truth import check

from lookalike.serving.freshness import Freshness
from lookalike.serving.server import SWITCH_SECONDS
from lookalike.storage.atomic import write_bytes

SIZES = (30_000, 100_000, 300_000, 600_000)


@dataclass
class Round:
    """What was measured in one stretch of time. Latencies in ms, without and with a filter."""

    clients: int
    rate: float
    seconds: float
    plain: list[float] = field(default_factory=list)
    filtered: list[float] = field(default_factory=list)
    fresh: dict[str, Any] = field(default_factory=dict)
    """Seconds from a change to visible, by kind: count, p50, p99."""
    sent: dict[str, Any] = field(default_factory=dict)
    search_cpu: float = 0.0
    """Processor seconds of the clients; the rest of the process is taking changes in."""
    other_cpu: float = 0.0
    drain_seconds: float = 0.0
    """From the last change until all were visible."""
    overlay: dict[str, int] = field(default_factory=dict)
    anonymous_bytes: int = 0

    @property
    def took(self) -> list[float]:
        return self.plain + self.filtered

    def figures(self) -> dict[str, Any]:
        """As JSON values, latencies as quantiles."""
        searches, changes = len(self.took), self.sent.get("count", 0)
        told = {"queries/s": round(searches / self.seconds, 1), **quantiles(self.took)}
        told["cpu ms of a search"] = round(self.search_cpu / max(searches, 1) * 1000, 3)
        told["cpu ms of a change"] = round(self.other_cpu / changes * 1000, 3) if changes else 0.0
        parts = {"plain": quantiles(self.plain), "filtered": quantiles(self.filtered)}
        return asdict(self) | told | parts


def run_round(served: Served, producer: Producer, clients: int, rate: float, seconds: float) -> Round:
    """So many clients, each asking again once answered, beside changes at `rate`; returns when all are visible."""
    found = Round(clients, rate, seconds)
    producer.ask("prepare", int(rate * seconds))
    # The follower holds the metrics; a fresh part of them counts this round alone.
    served.metrics.freshness = Freshness(CollectorRegistry())
    until = time.perf_counter() + seconds

    def client(number: int) -> None:
        queries, began_cpu = itertools.islice(served.queries(), 97 * number, None), time.thread_time()
        while (began := time.perf_counter()) < until:
            query = next(queries)
            served.search(query)
            (found.filtered if query.filters else found.plain).append((time.perf_counter() - began) * 1000)
        found.search_cpu += time.thread_time() - began_cpu

    began_cpu = time.process_time()
    if rate:
        producer.start("send", rate, seconds)
    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if rate:
        found.sent = producer.result()
        found.drain_seconds = served.wait_for(found.sent["last"])
    found.other_cpu = time.process_time() - began_cpu - found.search_cpu
    found.fresh = served.metrics.freshness.summary()
    found.overlay, found.anonymous_bytes = asdict(served.overlay.stats()), anonymous_bytes()
    return found


def grow(served: Served, producer: Producer, touched: int) -> float:
    """Send changes without pause until so many items are touched; seconds that took."""
    began = time.monotonic()
    while (missing := touched - served.overlay.stats().touched) > 0:
        served.wait_for(producer.ask("fill", max(1_000, min(missing, 20_000))))
    return time.monotonic() - began


def quantiles(took: Sequence[float]) -> dict[str, float]:
    """Milliseconds."""
    if not took:
        return {}
    p50, p95, p99 = np.percentile(took, (50, 95, 99))
    return {"p50 ms": round(p50, 3), "p95 ms": round(p95, 3), "p99 ms": round(p99, 3)}


def anonymous_bytes() -> int:
    """Memory of this process that is its own: no pages of files."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def measure(served: Served, producer: Producer, chosen: argparse.Namespace) -> dict[str, Any]:
    """All rounds, the growth, and the comparison."""
    results: dict[str, Any] = {"machine": machine(), "items": served.index.manifest.items, "mix": MIXES[chosen.mix]}
    results["checks before"] = show_check(*check(served, {}, chosen.checks))
    run_round(served, producer, 1, 0, min(chosen.seconds, 5.0))  # warm
    header("nothing changed yet", served)
    results["unchanged"] = [run_round(served, producer, each, 0, chosen.seconds).figures() for each in chosen.clients]
    for figures in results["unchanged"]:
        show(figures)
    header("rounds, rates taking turns", served)
    rounds: list[Round] = []
    for repeat in range(chosen.repeats):
        pairs = list(itertools.product(chosen.clients, chosen.rates))
        # Each rate meets each size of the overlay as often: the order turns about.
        for clients, rate in pairs if repeat % 2 == 0 else reversed(pairs):
            rounds.append(run_round(served, producer, clients, rate, chosen.seconds))
            show(rounds[-1].figures())
    results["rounds"] = [each.figures() for each in rounds]
    print("\nall rounds together")
    results["rates"] = list(by_rate(rounds))
    results["sizes"] = []
    if chosen.sizes:
        header("by size of the overlay", served)
    for size in chosen.sizes:
        took = grow(served, producer, size)
        for clients, rate in itertools.product(chosen.clients[:1], (0, max(chosen.rates))):
            results["sizes"].append(run_round(served, producer, clients, rate, chosen.seconds).figures())
            show(results["sizes"][-1] | {"fill seconds": round(took, 1)})
    results["checks after"] = show_check(*check(served, producer.ask("known"), chosen.checks))
    return results


def by_rate(rounds: Sequence[Round]) -> Iterable[dict[str, Any]]:
    """Rounds of one rate and number of clients as one, and how they stand to those without changes."""
    at_rest: dict[int, dict[str, Any]] = {}
    for clients, rate in sorted({(each.clients, each.rate) for each in rounds}):
        same = [each for each in rounds if (each.clients, each.rate) == (clients, rate)]
        took = [value for each in same for value in each.took]
        seconds = sum(each.seconds for each in same)
        told: dict[str, Any] = {
            "clients": clients,
            "rate": rate,
            "queries/s": round(len(took) / seconds, 1),
            **quantiles(took),
        }
        at_rest.setdefault(clients, told)
        told["queries/s, of those at rest"] = round(told["queries/s"] / at_rest[clients]["queries/s"], 3)
        told["p99, of that at rest"] = round(told["p99 ms"] / at_rest[clients]["p99 ms"], 2)
        told["plain"] = quantiles([value for each in same for value in each.plain])
        told["filtered"] = quantiles([value for each in same for value in each.filtered])
        told["changes seen/s"] = round(
            sum(each.sent.get("count", 0) for each in same) / sum(each.seconds + each.drain_seconds for each in same), 1
        )
        fresh = [each.fresh["all"] for each in same if each.fresh]
        if fresh:
            told["visible after"] = {
                name: round(float(np.mean([one[name] for one in fresh])), 3) for name in ("p50", "p99")
            }
        show(told)
        yield told


def show(figures: dict[str, Any]) -> None:
    """One line of what can be read at a glance."""
    overlay, fresh = figures.get("overlay", {}), figures.get("fresh", {}).get("all") or figures.get("visible after")
    told = [f"{figures['clients']} clients, {figures['rate']:5.0f} changes/s: {figures['queries/s']:7.1f} queries/s"]
    told += [f"{name} {figures[name]:7.2f}" for name in ("p50 ms", "p95 ms", "p99 ms")]
    told += [
        f"{kind} {figures[kind].get('p50 ms', 0):.2f}/{figures[kind].get('p99 ms', 0):.2f}"
        for kind in ("plain", "filtered")
    ]
    if fresh:
        told.append(f"visible after {fresh['p50']:.3f}/{fresh['p99']:.3f} s")
    if overlay:
        sizes = f"{overlay['touched']:,} changed, {overlay['slots']:,} vectors, {overlay['bytes'] / 2**20:.0f} MiB"
        told.append(f"overlay {sizes}; process {figures['anonymous_bytes'] / 2**20:.0f} MiB")
    told += [f"{name} {figures[name]}" for name in figures if name.endswith("at rest") or name == "fill seconds"]
    print("  ".join(told), flush=True)


def header(what: str, served: Served) -> None:
    """What follows, and on which machine."""
    manifest = served.index.manifest
    print(
        f"\n{what}: {manifest.items:,} items of {manifest.space.dim} dimensions, search {manifest.search}; {machine()}"
    )


def show_check(problems: list[str], recall: float) -> dict[str, Any]:
    """One line, and the first of what is wrong."""
    print(
        f"compared with brute force: recall {recall:.4f}, {len(problems)} problems",
        *problems[:10],
        sep="\n  ",
        flush=True,
    )
    return {"recall": round(recall, 4), "problems": problems[:100]}


def main() -> None:
    """Measure and write down."""
    chosen = _arguments()
    threadpool_limits(limits=1, user_api="blas")
    sys.setswitchinterval(SWITCH_SECONDS)
    stored, home = np.load(chosen.folder / QUERIES_NAME), Path(tempfile.mkdtemp(prefix="lookalike-updates-"))
    others = stored["others"]
    queries = {
        "pictures": np.concatenate([stored["pictures"], others[::2]]),
        "texts": np.concatenate([stored["texts"], others[1::2]]),
    }
    served = Served(chosen.folder / "index", home, queries)
    producer = Producer(chosen.folder / "index", home, MIXES[chosen.mix])
    try:
        results = measure(served, producer, chosen)
    finally:
        producer.close()
        served.close()
        shutil.rmtree(home, ignore_errors=True)
    chosen.out.mkdir(parents=True, exist_ok=True)
    path = chosen.out / f"{chosen.folder.resolve().name}-{chosen.mix}.json"
    write_bytes(path, json.dumps(results, indent=2).encode())
    print(path)
    sys.exit(1 if results["checks before"]["problems"] or results["checks after"]["problems"] else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a build of bench/scale.py")
    parser.add_argument("--mix", choices=MIXES, default="shop")
    parser.add_argument("--rates", type=float, nargs="+", default=(0.0, 100.0, 300.0, 1_000.0), help="changes a second")
    parser.add_argument("--clients", type=int, nargs="+", default=(1, 2))
    parser.add_argument("--seconds", type=float, default=10.0, help="of each round")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="changed items to grow the overlay to")
    parser.add_argument("--checks", type=int, default=120, help="answers that are compared with brute force")
    parser.add_argument("--out", type=Path, default=Path("var/bench/updates"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
