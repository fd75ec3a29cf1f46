"""Latency of single queries with a growing overlay, at rest and while another thread applies changes.

python bench/overlay_search.py INDEX_DIRECTORY [--rate 200] [--queries 300]

Each step puts as many new pictures (slots) as patches of sealed items on top of the release. Queries are items of the
release, so no encoder takes part: what is measured is search, filters and reading the hits.
"""

import argparse
import gc
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np
from search_latency import NoEncoder, machine, no_pictures

from index_builder.reader import open_index
from lookalike.contracts.change import ChangeKind, Position
from lookalike.contracts.item_state import ItemState, state_of_row
from lookalike.contracts.query import Filter, QueryPart, SearchQuery
from lookalike.contracts.sealed_index import SealedIndex
from lookalike.contracts.settings import IntakeSettings
from lookalike.contracts.vector_update import VectorUpdate
from lookalike.search.engine import SearchEngine
from lookalike.search.overlay import Overlay
from lookalike.search.products import ProductReader

STEPS = (0, 1_000, 10_000, 50_000)
GROUP = 20
WARM_UP = 20
PAUSE = 0.02


class Changes:
    """Messages as the job would publish them, decoded from their bytes as a server does."""

    def __init__(self, index: SealedIndex) -> None:
        self._index, self._products, self._random = index, ProductReader(index.columns), np.random.default_rng(2)
        self._version = 2**40

    def picture(self, number: int) -> VectorUpdate:
        """A new item like one of the release, with a picture of its own."""
        state = state_of_row(self._products.row(number % self._index.manifest.items))
        item_id = f"new:{number:08d}"
        columns = {**state.columns, "content_hash": sha256(item_id.encode()).hexdigest()}
        vector = self._random.normal(size=self._index.manifest.space.dim)
        fresh = replace(state, item_id=item_id, columns=columns, base_version=self._next())
        return self._sent(fresh, ChangeKind.UPSERT, vector / np.linalg.norm(vector))

    def patch(self, number: int) -> VectorUpdate:
        """Another price and stock of an item of the release or of a new one."""
        items = self._index.manifest.items
        if number < items:
            state = state_of_row(self._products.row(number))
        else:
            state = self.picture(number).state or ItemState("", 0)
        values = {"price": round(float(self._random.random() * 100), 2), "stock": int(self._random.integers(10))}
        state, _ = state.set_columns(self._next(), values, datetime.now(UTC))
        return self._sent(state, ChangeKind.ATTRIBUTES, None)

    def _next(self) -> int:
        self._version += 1
        return self._version

    def _sent(self, state: ItemState, kind: ChangeKind, vector: np.ndarray | None) -> VectorUpdate:
        vectors = {} if vector is None else {self._index.manifest.space.fingerprint: vector.astype(np.float32)}
        return VectorUpdate.decode(VectorUpdate(Position(0, 0), state, kind, datetime.now(UTC), vectors).encode())


def fill(overlay: Overlay, changes: Changes, known: int, wanted: int) -> None:
    """Go on from `known` slots and patches to `wanted` of each."""
    for start in range(known, wanted, GROUP):
        numbers = range(start, min(start + GROUP, wanted))
        overlay.apply([changes.picture(number) for number in numbers])
        overlay.apply([changes.patch(number) for number in numbers])


def measure(engine: SearchEngine, queries: list[SearchQuery], pause: float = 0.0) -> str:
    """Milliseconds per query after a warm-up: p50 and p99 by the clock, and mean of processor time."""
    for query in queries[:WARM_UP]:
        engine.search(query)
    took, used = [], 0.0
    for query in queries:
        began = time.thread_time()
        took.append(engine.search(query).took_ms["total"])
        used += time.thread_time() - began
        time.sleep(pause)
    return f"{np.percentile(took, 50):6.2f} /{np.percentile(took, 99):6.2f} (cpu {used / len(queries) * 1000:.2f})"


def time_apply(overlay: Overlay, changes: Changes) -> tuple[list[float], list[float]]:
    """Milliseconds by the clock and of processor time of 20 groups, half of each new pictures, half patches."""
    took, used = [], []
    for number in range(0, 20 * GROUP // 2, GROUP // 2):
        numbers = range(number, number + GROUP // 2)
        group = [changes.picture(10**7 + at) for at in numbers] + [changes.patch(at) for at in numbers]
        began, began_cpu = time.perf_counter(), time.thread_time()
        overlay.apply(group)
        used.append((time.thread_time() - began_cpu) * 1000)
        took.append((time.perf_counter() - began) * 1000)
    return took, used


def show(when: str, plain: str, filtered: str) -> None:
    """One line of both kinds of query."""
    print(f"    {when:<10} plain {plain}   filtered {filtered}   ms p50/p99")


class Writer(threading.Thread):
    """Applies changes at a steady rate, half of them patches, and notes how long each group took."""

    def __init__(self, overlay: Overlay, groups: Iterator[list[VectorUpdate]], rate: float) -> None:
        super().__init__()
        self._overlay, self._groups, self._rate, self._halt = overlay, groups, rate, threading.Event()
        self.took: list[float] = []

    def run(self) -> None:
        """Until `halt`. Decoding is part of it: a server decodes in the same thread."""
        due = time.perf_counter()
        while not self._halt.is_set():
            group = next(self._groups)
            due += len(group) / self._rate
            began = time.perf_counter()
            self._overlay.apply(group)
            self.took.append((time.perf_counter() - began) * 1000)
            self._halt.wait(max(0.0, due - time.perf_counter()))

    def halt(self) -> None:
        """Stop and wait."""
        self._halt.set()
        self.join()


def groups_of(changes: Changes, start: int, size: int) -> Iterator[list[VectorUpdate]]:
    """Groups of changes without end: half new pictures, half patches of items already changed."""
    number = start
    while True:
        yield [changes.picture(number + at) for at in range(size // 2)] + [
            changes.patch((number + at) % max(start, 1_000)) for at in range(size - size // 2)
        ]
        number += size


def main() -> None:
    """Open the release, grow the overlay step by step, print a line per step and kind of query."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="a built index")
    parser.add_argument("--rate", type=float, default=200.0, help="changes per second while searching")
    parser.add_argument("--group", type=int, default=4, help="changes per group while searching")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--k", type=int, default=24)
    parser.add_argument("--steps", type=int, nargs="*", default=STEPS)
    arguments = parser.parse_args()
    index = open_index(arguments.directory)
    manifest = index.manifest
    overlay = Overlay(index, manifest.space.fingerprint, 2**40)
    engine = SearchEngine(
        index, NoEncoder(manifest.space), "bench", decode=no_pictures, limits=IntakeSettings(), overlay=overlay  # type: ignore[arg-type]
    )  # fmt: skip
    rows = np.random.default_rng(1).integers(0, manifest.items, arguments.queries)
    ids = [index.columns["item_id"][int(row)].as_py() for row in rows]
    plain = [SearchQuery(parts=(QueryPart(item_id=item_id),), k=arguments.k) for item_id in ids]
    stocked = [query.model_copy(update={"filters": (Filter(field="stock", at_least=1),)}) for query in plain]
    print(f"{manifest.items:,} items, {manifest.space.dim} dimensions, recipe {manifest.recipe.name}; {machine()}")
    changes, known = Changes(index), 0
    for step in arguments.steps:
        fill(overlay, changes, known, step)
        known = step
        gc.collect()
        took, used = time_apply(overlay, changes)
        stats = overlay.stats()
        print(
            f"\n{stats.slots:,} slots, {stats.patched:,} patches: {stats.bytes / 2**20:.1f} MiB; apply of {GROUP}: "
            f"{np.median(took):.2f} ms (cpu {np.mean(used):.2f})"
        )
        show("at rest", measure(engine, plain), measure(engine, stocked))
        writer = Writer(overlay, groups_of(changes, 2 * 10**7, arguments.group), arguments.rate)
        writer.start()
        show(f"at {arguments.rate:.0f}/s", measure(engine, plain, PAUSE), measure(engine, stocked, PAUSE))
        writer.halt()
        print(
            f"    apply of {arguments.group} meanwhile: p50 {np.percentile(writer.took, 50):.2f}, "
            f"p99 {np.percentile(writer.took, 99):.2f}, worst {max(writer.took):.1f} ms"
        )


if __name__ == "__main__":
    main()
