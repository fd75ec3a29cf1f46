"""Recall and latency of an index at scale: one query at a time, under load, cold and warm, by k and search parameters.

    python bench/scale_latency.py var/bench/scale/100000000 [--memory 16GiB]

The folder is one that `bench/scale.py` built. With --memory the kernel lets the process have no more than that, the
page cache of its files included, as a machine of that size would. Kinds of latency: `cold`, nothing of the files is in
memory and each query is the first to ask for its rows; `steady`, after thousands of other queries, rows of a new query
being in memory by chance only; `again`, the same queries once more. What a recall costs is measured at the operating
points of the index that lie around it. Results also go to latency.json in the folder; `scale_plots.py` draws them.
"""

import argparse
import json
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from memory_group import MemoryGroup, limited
from numbered_source import QUERIES_NAME, read_truth
from numpy.typing import NDArray
from peers.curves import BOTH, RECALLS
from search_latency import machine

from index_builder.reader import FaissIndex, open_index
from lookalike.contracts.encoder import Vectors

K, TIMED, WARMING = 10, 500, 4_000
TIE = 1e-5
UNITS = {"GiB": 2**30, "MiB": 2**20}
KINDS = ("pictures", "texts")
SHARES = (1, 5, 10, 25, 50, 75, 90, 95, 99, 100)
"""Percentiles that a distribution is written down by."""
DEPTHS_OF_K = (10, 50, 100)
CLIENTS = (1, 2, 4)
LOAD_SECONDS, LOAD_QUERIES = 15.0, 10_000


def main() -> None:
    """Measure and write down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--memory", type=bytes_of, help="such as 16GiB")
    chosen = parser.parse_args()
    with limited(chosen.memory) if chosen.memory else nullcontext() as group:
        results = measure(chosen.folder, group)
    results["memory limit"] = chosen.memory
    (chosen.folder / "latency.json").write_text(json.dumps(results, indent=2) + "\n")


def bytes_of(text: str) -> int:
    """`16GiB` in bytes."""
    for unit, size in UNITS.items():
        if text.endswith(unit):
            return int(float(text.removesuffix(unit)) * size)
    raise argparse.ArgumentTypeError(f"{text!r}: write a number and one of {', '.join(UNITS)}, such as 16GiB")


def measure(folder: Path, group: MemoryGroup | None) -> dict[str, Any]:
    """All figures of one index."""
    faiss.omp_set_num_threads(1)
    forget(folder / "index")
    index = open_index(folder / "index", verify=False)
    search = dict(index.manifest.search)
    queries = Queries(folder)
    print(f"{index.manifest.items:,} items of {index.manifest.space.dim} dimensions, search {search}; {machine()}")
    results: dict[str, Any] = {"machine": machine(), "items": index.manifest.items, "search": search}
    results["latency"] = _cold_and_warm(index, search, queries)
    results["recall"] = show("recall@10", {kind: queries.recall(index, search, kind) for kind in KINDS})
    results["points"] = _around_recalls(index, queries)
    results["by k"] = {k: show(f"k = {k}", timed(index, search, queries.fresh(TIMED), k)) for k in DEPTHS_OF_K}
    results["by parameters"] = list(_by_parameters(index, search, queries))
    results["load"] = {
        clients: show(f"{clients} clients", load(index, search, queries, clients)) for clients in CLIENTS
    }
    results["memory"] = show("memory, MiB", memory_of(group))
    return results


class Queries:
    """Those whose truth is known, and others, of which none is asked twice before all are through."""

    def __init__(self, folder: Path) -> None:
        stored, (scores, rows) = np.load(folder / QUERIES_NAME), read_truth(folder)
        # More copies than the truth has rows are as near as the tenth: whether a found row is one cannot be told.
        known = scores[:, -1] < scores[:, K - 1] - TIE
        pictures = len(stored["pictures"])
        self.vectors: dict[str, Vectors] = {}
        self.truth: dict[str, Vectors] = {}
        """True similarities, shape (queries, TRUE), best first."""
        self._right: dict[str, list[set[int]]] = {}
        for kind, these in zip(KINDS, (slice(pictures), slice(pictures, None)), strict=True):
            own, near = scores[these][known[these]], rows[these][known[these]]
            self.vectors[kind], self.truth[kind] = stored[kind][known[these]], own
            self._right[kind] = [
                set(row[score >= score[K - 1] - TIE].tolist()) for score, row in zip(own, near, strict=True)
            ]
        self._others, self._used = stored["others"], 0
        self._known: dict[tuple[str, ...], float] = {}

    def recall(self, index: FaissIndex, search: dict[str, int], kind: str) -> float:
        """Of a search with these parameters; each is asked once only, so there is one index for these queries."""
        key = (kind, str(sorted(search.items())))
        if key not in self._known:
            found = [index.search_with(search, query[None], K)[1][0] for query in self.vectors[kind]]
            self._known[key] = self.share(np.stack(found), kind)
        return self._known[key]

    def share(self, found: NDArray[np.int64], kind: str) -> float:
        """Share of the ten that are as near as the true tenth; `found`: rows, shape (queries, K)."""
        right = sum(
            len(known.intersection(rows)) for rows, known in zip(found.tolist(), self._right[kind], strict=True)
        )
        return round(right / K / len(found), 4)

    def fresh(self, count: int) -> Vectors:
        """The next of the others: pictures and texts in turn, as long as `count` is even."""
        chosen: Vectors = self._others[np.arange(self._used, self._used + count) % len(self._others)]
        self._used += count
        return chosen


def _cold_and_warm(index: FaissIndex, search: dict[str, int], queries: Queries) -> dict[str, Any]:
    """`index` is just opened: pages that it has mapped and used could not be made cold again."""
    found = {"cold": times(index, search, queries.fresh(TIMED))}
    times(index, search, queries.fresh(WARMING))
    some = queries.fresh(TIMED)
    found |= {kind: times(index, search, some) for kind in ("steady", "again")}
    return {
        kind: show(kind, _quantiles(took))
        | {"by kind": {of: show(of, _quantiles(part)) for of, part in _by_kind(took).items()}}
        | {"ms by percentile": dict(zip(SHARES, _percentiles(took), strict=True))}
        for kind, took in found.items()
    }


def _by_kind(took: list[float]) -> dict[str, list[float]]:
    """Pictures and texts come in turn."""
    return {kind: took[at::2] for at, kind in enumerate(KINDS)}


def _around_recalls(index: FaissIndex, queries: Queries) -> list[dict[str, Any]]:
    """The index's own operating points next below and above each of RECALLS, for each kind of query, cheapest first."""
    front = [point.search for point in index.manifest.operating_points]
    wanted = set[int]()
    for kind in KINDS:
        for recall in RECALLS:
            # Only the points that are met on the way are measured; a recall that none reaches has the last one.
            first = bisect_left(front, recall, key=lambda search, kind=kind: queries.recall(index, search, kind))
            wanted |= {first - 1, first} & set(range(len(front)))
    return [_point(index, front[at], queries) for at in sorted(wanted)]


def _point(index: FaissIndex, search: dict[str, int], queries: Queries) -> dict[str, Any]:
    """Recall and times of single queries by kind, and over both: the lower recall, all times; see `peers/curves.py`."""
    took = times(index, search, queries.fresh(TIMED))
    parts = _by_kind(took) | {BOTH: took}
    recalls = {kind: queries.recall(index, search, kind) for kind in KINDS}
    recalls[BOTH] = min(recalls.values())
    show(str(search), recalls | _quantiles(took))
    single = {
        kind: {"recall": recalls[kind], "mean_ms": round(float(np.mean(part)), 4)}
        | dict(zip(("p50_ms", "p99_ms"), _percentiles(part, (50, 99)), strict=True))
        for kind, part in parts.items()
    }
    return {"search": search, "single": single}


def _by_parameters(index: FaissIndex, search: dict[str, int], queries: Queries) -> Iterator[dict[str, Any]]:
    """Around the chosen parameters, one changed at a time."""
    for name, value in search.items():
        for factor in (0.25, 0.5, 1, 2, 4):
            changed = search | {name: max(1, round(value * factor))}
            recall = {kind: queries.recall(index, changed, kind) for kind in KINDS}
            found = {"search": changed, "recall": recall, **timed(index, changed, queries.fresh(TIMED))}
            show(str(changed), found | {"search": ""})
            yield found


def timed(index: FaissIndex, search: dict[str, int], queries: Vectors, k: int = K) -> dict[str, float]:
    """Quantiles of `times`."""
    return _quantiles(times(index, search, queries, k))


def times(index: FaissIndex, search: dict[str, int], queries: Vectors, k: int = K) -> list[float]:
    """Milliseconds of each query, one at a time."""
    took = []
    for query in queries:
        started = time.perf_counter()
        index.search_with(search, query[None], k)
        took.append((time.perf_counter() - started) * 1000)
    return took


def load(index: FaissIndex, search: dict[str, int], queries: Queries, clients: int) -> dict[str, float]:
    """So many clients, each asking again when it has its answer."""
    took: list[float] = []
    until = time.perf_counter() + LOAD_SECONDS

    def client(own: Vectors) -> None:
        for query in own:
            started = time.perf_counter()
            if started > until:
                return
            index.search_with(search, query[None], K)
            took.append((time.perf_counter() - started) * 1000)

    threads = [threading.Thread(target=client, args=(queries.fresh(LOAD_QUERIES),)) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"queries/s": round(len(took) / (time.perf_counter() - started), 1), **_quantiles(took)}


def memory_of(group: MemoryGroup | None) -> dict[str, float]:
    """Of this process by the system's own count, anonymous and of mapped files; of its group where it has one."""
    lines = Path("/proc/self/status").read_text().splitlines()
    told = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("Rss", "VmHWM"))}
    found = {name: round(int(kib) / 2**10, 1) for name, kib in told.items()}
    if group is not None:
        found |= {
            f"group {kind}": round(size / 2**20, 1) for kind, size in (group.parts | {"peak": group.peak}).items()
        }
    return found


def forget(folder: Path) -> None:
    """Nothing of its files stays in the page cache but what is mapped by a process and in use."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def show(name: str, figures: dict[str, Any]) -> dict[str, Any]:
    """One line."""
    print(f"{name:>34}  " + "  ".join(f"{key} {value}" for key, value in figures.items() if value != ""), flush=True)
    return figures


def _quantiles(took: list[float]) -> dict[str, float]:
    return dict(zip(("p50 ms", "p95 ms", "p99 ms", "worst"), _percentiles(took, (50, 95, 99, 100)), strict=True))


def _percentiles(took: list[float], shares: Sequence[float] = SHARES) -> list[float]:
    return [round(float(value), 3) for value in np.percentile(took, shares)]


if __name__ == "__main__":
    main()
