"""What searches in inverted lists take on this machine, and finding an item's own list, for `plan_rates.py`."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from index_builder.axes import AxesFit
from index_builder.grouped_centres import COMPARED, DIRECTIONS, groups_of
from index_builder.list_centres import ListCentres
from index_builder.list_codes import add_codes, empty_codes, packed
from index_builder.query_time import lists_us
from index_builder.rates import Rates
from index_builder.reader import open_index
from index_builder.search_parameters import products_of, search_lists
from index_builder.sizes import Codes
from lookalike.contracts.encoder import Vectors

DIM = 512
AXES, FINER = 96, 320
ROUNDS, QUERIES = 5, 48
NS, US = 1e9, 1e6
LEARNED_ON = 16_384
GATHERED = 1_024
"""Rows that a query is compared with: in all of them more than a cache holds."""
IMAGES, COPIES = 65_536, 16
"""Items in lists: so many different ones so many times, in other lists each; their codes are more than a cache holds,
and so are those of an index that is worth a plan."""
SHORT, LONG = 16, 2_048
"""Codes of a list. Half a block, so that what the other half costs counts as begun, as in lists of any length."""
PROBED = {SHORT: (16, 1_024), LONG: (16, 128)}
CANDIDATES = 60
CENTRES, SOUGHT = 65_536, 8_192
PROBES, FACTORS, K = (8, 32, 128, 512), (1, 6, 24), 10


def of_gathering(vectors: Vectors) -> dict[str, float]:
    """Vectors compared that do not lie beside each other."""
    flat, random = flat_index(vectors), np.random.default_rng(3)
    rows = np.sort(random.integers(0, len(vectors), (QUERIES, GATHERED)), axis=1)
    took = least(lambda: [products_of(flat, vectors[at : at + 1], rows[at : at + 1]) for at in range(QUERIES)])
    return {"gather_ns": took / rows.size / DIM * NS}


def of_lists(vectors: Vectors, gather_ns: float) -> dict[str, float]:
    """One list and one code, from searches of few and of many short lists and long ones."""
    images = AxesFit(vectors[:LEARNED_ON]).cut(AXES).of_items(vectors[:IMAGES])
    times = {length: of_probes(images, length) for length in (SHORT, LONG)}
    return list_rates(times, gather_ns)


def of_probes(images: Vectors, length: int) -> dict[int, float]:
    """Microseconds of a search by the number of lists of that length, drawn from all."""
    nlist = len(images) * COPIES // length
    numbers = np.arange(len(images), dtype=np.int64)
    index = empty_codes(images[:nlist], images[:LEARNED_ON], numbers[:LEARNED_ON] % nlist)
    for copy in range(COPIES):
        add_codes(index, images, (numbers + copy * (LEARNED_ON + 1)) % nlist)
    scanned, random = packed(index), np.random.default_rng(4)
    found = {}
    for probed in PROBED[length]:
        asked = [random.choice(nlist, (1, probed), replace=False) for _ in range(QUERIES)]
        ask = [
            partial(search_lists, scanned, images[at : at + 1], CANDIDATES, lists, None)
            for at, lists in enumerate(asked)
        ]
        found[probed] = least(lambda ask=ask: [search() for search in ask]) / QUERIES * US
    return found


def list_rates(times: dict[int, dict[int, float]], gather_ns: float) -> dict[str, float]:
    """From microseconds by the length of lists and how many of them are searched; `begun_us`: of a search, whatever its
    lists, which the short ones tell best."""
    each_list = {}
    for length, by_probes in times.items():
        (few, less), (many, more) = sorted(by_probes.items())
        each_list[length] = (more - less) / (many - few)
    (short, of_short), (long, of_long) = sorted(each_list.items())
    code_us = (of_long - of_short) / (long - short)
    few, less = min(times[short].items())
    return {
        "code_ns": code_us / AXES * 1e3,
        "list_us": of_short - short * code_us - AXES * gather_ns / 1e3,
        "begun_us": less - few * of_short,
    }


def of_looking(vectors: Vectors, product_ns: float, gather_ns: float) -> dict[str, float]:
    """The list of each vector among many: what is left beside products and exact comparisons."""
    centres, sought = ListCentres.of(vectors[:CENTRES]), np.ascontiguousarray(vectors[-SOUGHT:])
    centres.nearest_of(sought)  # centres are put in groups once
    took = least(lambda: centres.nearest_of(sought), 3) / SOUGHT * NS
    groups, looked_into = groups_of(CENTRES)
    seen = looked_into * CENTRES / groups
    products = DIM * (groups + DIRECTIONS) + DIRECTIONS * seen
    return {"look_ns": (took - products * product_ns - COMPARED * DIM * gather_ns) / seen}


def held_to(folder: Path, rates: Rates) -> None:
    """Print what searches of an index that was built take, with its own queries, and what they take by the rates."""
    index, queries = open_index(folder / "index", verify=False), np.load(folder / "queries.npz")["others"][:QUERIES]
    manifest, codes = index.manifest, index.manifest.build["codes"]
    nlist, coded = manifest.recipe.nlist or 0, Codes(codes["axes"], codes["finer_axes"])
    each_list = manifest.items / nlist * manifest.build["quantiser"]["imbalance_of_all"]
    for nprobe in (nprobe for nprobe in PROBES if nprobe <= nlist):
        for factor in FACTORS:
            ask = partial(index.search_with, {"nprobe": nprobe, "k_factor": factor}, k=K)
            # Of the typical query: a few take much longer, and the p50 is what is told.
            took = np.median([least(lambda ask=ask, one=one: ask(queries=one[None]), 3) for one in queries]) * US
            said = lists_us(rates, nlist, manifest.space.dim, coded, nprobe, nprobe, nprobe * each_list, K * factor)
            print(f"  {nprobe:5} lists, {K * factor:4} candidates: {took:8.0f} us, by the rates {said:8.0f}")


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


def flat_index(vectors: Vectors) -> Any:
    """Of all of them, by inner product."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors))
    return index
