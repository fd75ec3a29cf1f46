"""What searches in inverted lists take on this machine, for `plan_rates.py`: codes scanned and codes compared."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from index_builder.axes import AxesFit
from index_builder.list_centres import ListCentres
from index_builder.list_codes import add_codes, empty_codes, packed
from index_builder.list_search import ListSearch
from index_builder.reader import open_index
from index_builder.search_parameters import search_lists
from index_builder.sizes import Codes
from lookalike.contracts.encoder import Vectors

DIM = 512
AXES, BITS, FINER = 96, 5, 320
ROUNDS, QUERIES = 5, 48
US = 1e6
LISTS, LONG_LISTS = 256, 32
PROBES, COUNTS = (8, 32, 128, 512), (10, 60, 240)


@dataclass(frozen=True)
class Scanned:
    """Something whose lists are searched: `items` in `nlist` lists, `imbalance` as they are; `queries` (q, dim)."""

    search: ListSearch
    items: int
    nlist: int
    imbalance: float
    codes: Codes
    queries: Vectors
    owner: Any
    """Of the memory that is searched."""


def of_scanning(vectors: Vectors, found: dict[str, Any]) -> dict[str, float]:
    """Codes of one bit in long lists, all of them scanned."""
    axes = AxesFit(vectors[:16_384]).cut(AXES)
    images = axes.of_items(vectors)
    index = empty_codes(images[:LONG_LISTS], 1)
    add_codes(index, images, np.arange(len(vectors), dtype=np.int64) % LONG_LISTS)
    scanned, asked = packed(index), np.arange(LONG_LISTS, dtype=np.int64)[None]
    took = least(lambda: each(images[:QUERIES], lambda one: search_lists(scanned, one, 10, asked, None)))
    return {"code_ns": max(took / QUERIES * US - LONG_LISTS * found["list_us"], 1.0) / len(vectors) / AXES * 1e3}


def made_up(vectors: Vectors) -> Scanned:
    """Lists around some of the vectors."""
    centres = ListCentres.of(vectors[:: len(vectors) // LISTS][:LISTS])
    axes = AxesFit(vectors[:16_384]).cut(AXES)
    index = empty_codes(axes.of_items(centres.vectors), BITS)
    lists = centres.nearest_of(vectors)
    add_codes(index, axes.of_items(vectors), lists)
    sizes = np.bincount(lists, minlength=LISTS).astype(float)
    noise = np.random.default_rng(2).standard_normal((QUERIES, DIM), dtype=np.float32)
    queries = vectors[:: len(vectors) // QUERIES][:QUERIES] + 0.3 * noise / np.sqrt(DIM)
    return Scanned(
        ListSearch(packed(index), centres, axes, len(vectors)), len(vectors), LISTS,
        float(LISTS * (sizes**2).sum() / sizes.sum() ** 2), Codes(AXES, BITS, FINER), queries, index,
    )  # fmt: skip


def stored(folder: Path) -> Scanned:
    """Of an index that was built, with queries that are pictures and words in turn."""
    index = open_index(folder / "index", verify=False)
    manifest, codes = index.manifest, index.manifest.build["codes"]
    assert index._lists is not None and manifest.recipe.nlist is not None
    return Scanned(
        index._lists, manifest.items, manifest.recipe.nlist, manifest.build["quantiser"]["imbalance_of_all"],
        Codes(codes["axes"], codes["bits"], codes["finer_axes"]),
        np.load(folder / "queries.npz")["others"][:QUERIES], index,
    )  # fmt: skip


def of_lists(scanned: Scanned, found: dict[str, Any]) -> dict[str, float]:
    """Codes that are compared with all their bits, from searches of several depths: the rest is known."""
    depths = [(nprobe, count) for nprobe in PROBES if nprobe <= scanned.nlist for count in COUNTS]
    codes = np.array([nprobe * scanned.items / scanned.nlist * scanned.imbalance for nprobe, _ in depths])
    counts = np.array([float(count) for _, count in depths])
    took, rest = [], []
    for (nprobe, count), many in zip(depths, codes.tolist(), strict=True):
        ask = partial(scanned.search.candidates, count=count, nprobe=nprobe)
        # Of the typical query: a few take much longer, and the p50 is what is told.
        took.append(np.median([least(lambda ask=ask, one=one: ask(one[None]), 3) for one in scanned.queries]) * US)
        compared = DIM * (scanned.nlist + scanned.codes.axes) * found["compare_ns"]
        rest.append(nprobe * found["list_us"] + (compared + many * scanned.codes.axes * found["code_ns"]) / 1e3)
    left = np.log(np.maximum(np.array(took) - rest, 1.0))
    terms = np.stack([np.ones(len(left)), np.log(codes), np.log(counts)], axis=1)
    at, by_codes, by_candidates = np.linalg.lstsq(terms, left)[0].tolist()
    by_codes, by_candidates = (min(max(power, 0.0), 1.0) for power in (by_codes, by_candidates))
    said = math.exp(at) * codes**by_codes * counts**by_candidates + rest
    for depth, measured, expected in zip(depths, took, said.tolist(), strict=True):
        print(f"  {depth[0]:5} lists, {depth[1]:4} candidates: {measured:8.0f} us, by the rates {expected:8.0f}")
    return {"kept_us": math.exp(at), "kept_by_codes": by_codes, "kept_by_candidates": by_candidates}


def least(work: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """Seconds of processor time, in the best of some rounds."""
    took = []
    for _ in range(rounds):
        started = time.thread_time()
        work()
        took.append(time.thread_time() - started)
    return min(took)


def each(queries: Vectors, search: Callable[[Vectors], Any]) -> None:
    for query in queries:
        search(query[None])
