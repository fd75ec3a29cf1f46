"""Rates of this machine for `lookalike plan --rates FILE`: each thing that searches and builds do, measured by itself.

    OMP_NUM_THREADS=1 python bench/plan_rates.py --out rates.json [--index var/bench/scale/1000000-real]

Takes a minute or two on a quiet machine. Every figure is the least processor time of one thread in several rounds;
reads from a cold disk are wall time. With --index lists are scanned in an index of bench/scale.py with its own queries;
else in one of made-up vectors, whose codes tell more apart than those of pictures and words do. The file that comes
with the package is written by --out index_builder/recipes/rates.json.
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
    BITS,
    DIM,
    FINER,
    LISTS,
    QUERIES,
    US,
    each,
    least,
    made_up,
    of_lists,
    of_scanning,
    stored,
)
from search_latency import machine, random_release

from index_builder.artifact import ITEMS_NAME
from index_builder.attribute_sets import write_sets
from index_builder.axes import Axes, AxesFit
from index_builder.build_time import INSERTED_AMONG
from index_builder.delta_source import DeltaSource
from index_builder.finest_codes import FinestCodes
from index_builder.list_centres import ListCentres
from index_builder.list_codes import add_codes, empty_codes, packed
from index_builder.merge import record
from index_builder.rates import Rates
from index_builder.search_parameters import search_lists
from lookalike.contracts.encoder import Vectors
from lookalike.contracts.manifest import Manifest
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import Settings
from lookalike.storage.atomic import write_bytes
from lookalike.storage.delta import DeltaTables

INNER = 64
NS, MIB = 1e9, 2**20
SCANNED_ITEMS = 100_000
GRAPH_ROWS, WALKED = 65_536, 256
"""Lists asked of a graph over centres: twice as deep a walk."""
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
        found = measure(Path(scratch), chosen.index)
    rates = Rates.model_validate(found)
    write_bytes(chosen.out, (rates.model_dump_json(indent=2) + "\n").encode())
    print(rates.model_dump_json(indent=2))


def measure(scratch: Path, index: Path | None) -> dict[str, Any]:
    """All of them."""
    vectors = clustered(SCANNED_ITEMS)
    on = f"lists of {index}" if index else "made-up lists"
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    found: dict[str, Any] = {"machine": f"{machine()}, {day}, bench/plan_rates.py, {on}", "cores": os.cpu_count() or 1}
    found |= of_comparing(vectors) | of_graphs(vectors) | of_coding(vectors)
    found |= of_scanning(vectors, found)
    found |= of_refining(scratch, found["compare_ns"])
    scanned = stored(index) if index else made_up(vectors)
    found |= of_lists(scanned, found)
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
    few, flat = ListCentres(_flat(vectors[:4_096])), _flat(vectors)
    product = _flat(vectors[:2_048])
    return {
        "compare_ns": least(lambda: each(vectors[:QUERIES], lambda one: few.nearest(one, 32)))
        / QUERIES / 4_096 / DIM * NS,
        "scan_ns": least(lambda: each(vectors[:4], lambda one: flat.search(one, 10)), 3)
        / 4 / len(vectors) / DIM * NS,
        "product_ns": least(lambda: product.search(vectors[:4_096], 1), 3) / 4_096 / 2_048 / DIM * NS,
    }  # fmt: skip


def of_graphs(vectors: Vectors) -> dict[str, float]:
    """A graph over more vectors than a cache holds."""
    started = time.thread_time()
    graph = ListCentres.of(vectors[:GRAPH_ROWS])
    inserted = (time.thread_time() - started) / GRAPH_ROWS / DIM * NS
    took = least(lambda: each(vectors[-QUERIES:], lambda one: graph.nearest(one, WALKED)))
    return {
        "insert_ns": inserted * math.log(INSERTED_AMONG) / math.log(GRAPH_ROWS),
        "step_ns": took / QUERIES / (2 * WALKED) / DIM * NS,
    }


def of_coding(vectors: Vectors) -> dict[str, float]:
    """Codes of several bits, finer ones, and lists of one code each, which are all beginnings."""
    some = vectors[:4_096]
    axes = AxesFit(vectors[:16_384]).cut(AXES)
    images = axes.of_items(some)
    lists = np.arange(len(some), dtype=np.int64) % LISTS
    coded = least(lambda: add_codes(empty_codes(images[:LISTS], BITS), images, lists), 3)
    finer = faiss.IndexScalarQuantizer(DIM, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    finer.train(some)
    short = empty_codes(images, BITS)
    add_codes(short, images, np.arange(len(some), dtype=np.int64))
    short_packed = packed(short)
    times = {}
    for probed in (64, 1_024):
        asked = np.arange(probed, dtype=np.int64)[None]
        times[probed] = least(
            lambda asked=asked: each(images[:QUERIES], lambda one: search_lists(short_packed, one, 10, asked, None))
        )
    return {
        "code_us": coded / len(some) / AXES * US,
        "finer_ns": least(lambda: finer.sa_encode(some)) / len(some) / DIM * NS,
        "list_us": (times[1_024] - times[64]) / QUERIES / (1_024 - 64) * US,
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


def _flat(vectors: Vectors) -> Any:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors))
    return index


def _new(scratch: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=scratch))


if __name__ == "__main__":
    main()
