"""Rates of this machine for `lookalike plan --rates FILE`: each thing that searches and builds do, measured by itself.

    OMP_NUM_THREADS=1 python bench/plan_rates.py --out rates.json [--index var/bench/scale/1000000-real]

Takes two minutes or three on a quiet machine. Every figure is the least processor time of one thread in several
rounds; reads from a cold disk are wall time. Vectors are made up, which what is measured does not mind. With --index
searches of an index of bench/scale.py with its own queries are shown beside what they take by these rates. The file
that comes with the package is written by --out index_builder/recipes/rates.json.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from plan_rates_lists import (
    AXES,
    DIM,
    FINER,
    LEARNED_ON,
    NS,
    QUERIES,
    US,
    each,
    flat_index,
    held_to,
    least,
    of_gathering,
    of_lists,
    of_looking,
)
from search_latency import machine, random_release

from index_builder.artifact import ITEMS_NAME
from index_builder.attribute_sets import write_sets
from index_builder.axes import Axes, AxesFit
from index_builder.build_time import INSERTED_AMONG
from index_builder.delta_source import DeltaSource
from index_builder.finest_codes import FinestCodes
from index_builder.list_centres import ListCentres
from index_builder.list_codes import add_codes, empty_codes
from index_builder.merge import record
from index_builder.parts import empty_index
from index_builder.rates import Rates
from index_builder.recipes import load_recipe
from index_builder.search_parameters import parameters
from lookalike.contracts.encoder import Vectors
from lookalike.contracts.manifest import Manifest
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import Settings
from lookalike.storage.atomic import write_bytes
from lookalike.storage.delta import DeltaTables

INNER = 64
MIB = 2**20
ITEMS = 100_000
GRAPH_ROWS, WALKED = 65_536, 512
LISTS = 256
COLD_FILE = 256 * MIB
TABLE_ITEMS = 10_000


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--index", type=Path, help="a folder of bench/scale.py")
    parser.add_argument("--folder", type=Path, help="for scratch files, on the disk that is to serve; default: --out's")
    chosen = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        raise SystemExit("rates are those of one core: run it as OMP_NUM_THREADS=1 python bench/plan_rates.py …")
    faiss.omp_set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=chosen.folder or chosen.out.parent) as scratch:
        rates = Rates.model_validate(measure(Path(scratch)))
    write_bytes(chosen.out, (rates.model_dump_json(indent=2) + "\n").encode())
    print(rates.model_dump_json(indent=2))
    if chosen.index:
        held_to(chosen.index, rates)


def measure(scratch: Path) -> dict[str, Any]:
    """All of them."""
    vectors = clustered(ITEMS)
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    found: dict[str, Any] = {"machine": f"{machine()}, {day}, bench/plan_rates.py", "cores": os.cpu_count() or 1}
    found |= of_comparing(vectors) | of_gathering(vectors) | of_graphs(vectors) | of_coding(vectors)
    found |= of_looking(vectors, found["product_ns"], found["gather_ns"])
    found |= of_lists(vectors, found["gather_ns"]) | of_refining(scratch, found["compare_ns"])
    found["query_us"] += max(found.pop("begun_us"), 0.0)
    found |= of_tables(scratch)
    found["process_bytes"] = _resident_after_opening(scratch)
    return {name: value if isinstance(value, str | int) else float(f"{value:.3g}") for name, value in found.items()}


def clustered(items: int) -> Vectors:
    """Unit vectors of few inner dimensions, around as many centres as there are hundreds of them."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((items // 100, INNER), dtype=np.float32)
    points = centres[random.integers(0, len(centres), items)]
    points += 0.7 * random.standard_normal((items, INNER), dtype=np.float32)
    spread = points @ random.standard_normal((INNER, DIM), dtype=np.float32)
    return np.asarray(spread / np.linalg.norm(spread, axis=1, keepdims=True))


def of_comparing(vectors: Vectors) -> dict[str, float]:
    """Centres, which a cache holds; many vectors, which it does not; and products of large matrices."""
    few, flat = ListCentres(flat_index(vectors[:4_096])), flat_index(vectors)
    product = flat_index(vectors[:2_048])
    return {
        "compare_ns": least(lambda: each(vectors[:QUERIES], lambda one: few.nearest(one, 32)))
        / QUERIES / 4_096 / DIM * NS,
        "scan_ns": least(lambda: each(vectors[:4], lambda one: flat.search(one, 10)), 3)
        / 4 / len(vectors) / DIM * NS,
        "product_ns": least(lambda: product.search(vectors[:4_096], 1), 3) / 4_096 / 2_048 / DIM * NS,
    }  # fmt: skip


def of_graphs(vectors: Vectors) -> dict[str, float]:
    """A graph over more vectors than a cache holds."""
    graph, started = empty_index(load_recipe("hnsw"), DIM), time.thread_time()
    graph.add(vectors[:GRAPH_ROWS])
    inserted = (time.thread_time() - started) / GRAPH_ROWS / DIM * NS
    given = parameters(graph, {"efSearch": WALKED}, None)
    took = least(lambda: each(vectors[-QUERIES:], lambda one: graph.search(one, 10, params=given)))
    return {
        "insert_ns": inserted * math.log(INSERTED_AMONG) / math.log(GRAPH_ROWS),
        "step_ns": took / QUERIES / WALKED / DIM * NS,
    }


def of_coding(vectors: Vectors) -> dict[str, float]:
    """Codes of four bits, and finer ones."""
    some = vectors[:4_096]
    images = AxesFit(vectors[:LEARNED_ON]).cut(AXES).of_items(some)
    lists = np.arange(len(some), dtype=np.int64) % LISTS
    index = empty_codes(images[:LISTS], images, lists)
    coded = least(lambda: add_codes(index, images, lists), 3)
    finer = faiss.IndexScalarQuantizer(DIM, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    finer.train(some)
    return {
        "code_us": coded / len(some) / AXES * US,
        "finer_ns": least(lambda: finer.sa_encode(some)) / len(some) / DIM * NS,
    }


def of_refining(scratch: Path, compare_ns: float) -> dict[str, float]:
    """Finer codes of candidates, from memory and from disk."""
    random, items = np.random.default_rng(1), COLD_FILE // FINER
    codes = faiss.IndexScalarQuantizer(FINER, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    codes.train(random.standard_normal((1_000, FINER), dtype=np.float32))
    path = scratch / "codes"
    with path.open("wb") as file:
        for _ in range(COLD_FILE // MIB):
            file.write(random.bytes(MIB))
        os.fsync(file.fileno())
    turn = np.linalg.qr(random.standard_normal((DIM, FINER)))[0].astype(np.float32)
    finest = FinestCodes(codes, COLD_FILE // FINER, path, Axes(turn, turn))
    query = random.standard_normal((1, DIM), dtype=np.float32)

    def ask(count: int, cold: bool = False, mapped: bool = True) -> float:
        took = []
        for _ in range(12):
            rows = random.choice(items, count, replace=False)[None]
            if not (cold or mapped):
                finest.best_of(query, rows, 10)
                finest.let_go()
            elif cold:
                finest.let_go()
                with path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            else:
                finest.best_of(query, rows, 10)
            clock = time.perf_counter if cold else time.thread_time
            started = clock()
            finest.best_of(query, rows, 10)
            took.append(clock() - started)
        return (float(np.median(took)) if cold else min(took)) * US

    warm, cold = {n: ask(n) for n in (20, 320)}, {n: ask(n, cold=True) for n in (20, 320)}
    one = (warm[320] - warm[20]) / 300
    unmapped = (ask(320, mapped=False) - ask(20, mapped=False)) / 300
    cold_each = max((cold[320] - cold[20]) / 300 - one, 0.01)
    return {
        "candidate_us": one,
        "query_us": max(warm[20] - 20 * one - DIM * FINER * compare_ns / 1e3, 1.0),
        "mapped_us": max(unmapped - one, 0.01),
        "cold_candidate_us": cold_each,
        "cold_us": max(cold[20] - warm[20] - 20 * cold_each, 1.0),
    }


def of_tables(scratch: Path) -> dict[str, float]:
    """A table read item by item, its columns put into sets, and bytes written."""
    folder = scratch / "home"
    index = random_release(folder, TABLE_ITEMS, DIM, "exact")
    source = DeltaSource.newest(DeltaTables(Settings(home=folder).tables_root), Manifest.read(index).space)
    shard = source.shards(TABLE_ITEMS)[0]
    read = least(lambda: [*source.blocks(shard, _new(scratch), LogProgress())], 3)
    sets = least(lambda: write_sets(index / ITEMS_NAME, _new(scratch) / "sets"), 3)
    data, path = os.urandom(32 * MIB), scratch / "bytes"

    def write() -> None:
        path.write_bytes(data)
        path.with_suffix(".copy").write_bytes(path.read_bytes())
        record(path)

    return {
        "source_us": read / TABLE_ITEMS * US,
        "row_us": sets / TABLE_ITEMS * US,
        "byte_ns": least(write, 3) / len(data) * NS,
    }


def _resident_after_opening(scratch: Path) -> int:
    """Bytes, no pages of files, of a new process that has opened a small index and searched it."""
    code = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from index_builder.reader import open_index\n"
        f"open_index(Path(sys.argv[1]), verify=False).search(np.ones((1, {DIM}), np.float32), 10)\n"
        "print(Path('/proc/self/status').read_text().split('RssAnon:')[1].split()[0])"
    )
    told = subprocess.run([sys.executable, "-c", code, scratch / "home" / "index"], capture_output=True, check=True)
    return int(told.stdout) * 1024


def _new(scratch: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=scratch))


if __name__ == "__main__":
    main()
