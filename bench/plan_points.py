"""Points that the cost model is held to, from the indexes of `bench/scale.py`; and the recall law, fitted to them.

    python bench/plan_points.py [--scale FOLDER ...]           adds to docs/performance/points.json
    python bench/plan_points.py --fit                          and index_builder/recipes/recall_law.json

A folder counts as far as it has got: index/manifest.json is needed, build.json and latency.json are taken when they are
there; points of indexes that are there no more stay. The law of graphs is fitted to the curves of
`bench/mixture_match.py` (--match), measured on 100,000 items; without them it stays.
"""

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
from numbered_source import GeneratedVectors, NumberedVectors, StoredVectors
from recall_fit import fitted

from index_builder.artifact import AXES_NAME, CENTRES_NAME, INDEX_NAME, ITEMS_NAME, REFINE_NAME
from index_builder.attribute_sets import SETS_NAME
from index_builder.recall_law import KINDS
from index_builder.truth import improve
from lookalike.contracts.manifest import MANIFEST_NAME, Manifest
from lookalike.storage.atomic import write_bytes

POINTS = Path("docs/performance/points.json")
LAW = Path("index_builder/recipes/recall_law.json")
IN_MEMORY = (INDEX_NAME, CENTRES_NAME, AXES_NAME)
BENCH_QUERIES, BENCH_TRUE = 1_000, 100
"""Whose nearest `bench/numbered_source.py` finds on the way: part of what reading a vector takes there."""
SOURCE_ROUNDS, COMPARED = 3, 8_192
QUIET_LOAD = 3.5
"""What a build by two processes makes by itself, and a little."""
US_PER_S = 1e6


def main() -> None:
    """Write the points, and with --fit the law."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=Path, nargs="+", default=[Path("var/bench/scale")])
    parser.add_argument("--vectors", type=Path, default=Path("var/bench/vectors"))
    parser.add_argument("--mixture", type=Path, default=Path("bench/mixture.npz"))
    parser.add_argument("--match", type=Path, default=Path("var/bench/match100k/match.json"))
    parser.add_argument("--fit", action="store_true", help="the recall law too")
    chosen = parser.parse_args()
    folders = [path.parent.parent for scale in chosen.scale for path in scale.glob(f"*/index/{MANIFEST_NAME}")]
    if not folders:
        raise SystemExit(f"{chosen.scale[0]}: no index there; python bench/scale.py --items 1000000 builds one")
    known = {(each["items"], each["vectors"]): each for each in (_read(POINTS) or {"points": []})["points"]}
    found = [point(folder, chosen, known) for folder in folders]
    points = [each for _, each in sorted((known | {(each["items"], each["vectors"]): each for each in found}).items())]
    _write(POINTS, {"points": points})
    if chosen.fit:
        _write(LAW, fitted(points, _read(chosen.match)))


def point(folder: Path, chosen: argparse.Namespace, known: dict[tuple[int, str], dict[str, Any]]) -> dict[str, Any]:
    """What is known of one index; figures that were not measured are null. `known`: points that were written before."""
    manifest = Manifest.read(folder / "index")
    build, latency = _read(folder / "build.json"), _read(folder / "latency.json")
    sizes = {name: record.bytes for name, record in manifest.files.items()}
    codes = manifest.build["codes"]
    name = "real" if folder.name.endswith("-real") else "generated"
    vectors: NumberedVectors = (
        StoredVectors(chosen.vectors, manifest.items)
        if name == "real"
        else GeneratedVectors(chosen.mixture, manifest.items)
    )
    before = known.get((manifest.items, name))
    return {
        "vectors": name,
        "machine": {"build": build and build["machine"], "search": latency and latency["machine"]},
        "items": manifest.items,
        "dim": manifest.space.dim,
        "nlist": manifest.recipe.nlist,
        "codes": {name: codes[name] for name in ("axes", "finer_axes")},
        "imbalance": manifest.build["quantiser"]["imbalance_of_all"],
        "shards": manifest.build["shards"],
        "points_per_list": manifest.recipe.train_points_per_list,
        "source_us": before["source_us"] if before else round(source_us(vectors), 1),
        "columns": {
            "items": round(sizes[ITEMS_NAME] / manifest.items, 3), "sets": round(sizes[SETS_NAME] / manifest.items, 3)
        },
        "memory_bytes": sum(sizes[name] for name in IN_MEMORY),
        "resident_bytes": _resident(latency),
        "disk_bytes": sum(sizes.values()),
        "finer_bytes": sizes[REFINE_NAME],
        "build_seconds": build and build["seconds"],
        "quiet": {"build": _quiet(build), "search": _quiet(latency)},
        "search": manifest.search,
        "recall": latency and latency["recall"],
        "within": _within(manifest),
        "warm": latency and _warm(latency),
        "cold": latency and _by_kind(latency["latency"]["cold"]),
        "curve": [
            [each.search["nprobe"], each.search["k_factor"], round(each.recall_at_10, 4),
             _rounded(each.recall_at_10_of_texts)]
            for each in manifest.operating_points
        ],
    }  # fmt: skip


def source_us(vectors: NumberedVectors) -> float:
    """Of making or reading one vector and comparing it with the benchmark's own queries, on one core."""
    random = np.random.default_rng(0)
    queries = random.standard_normal((BENCH_QUERIES, vectors.dim), dtype=np.float32)
    scores = np.full((BENCH_QUERIES, BENCH_TRUE), 2.0, np.float32)  # nothing is nearer: as it is after some blocks
    rows = np.zeros((BENCH_QUERIES, BENCH_TRUE), np.int64)
    started = time.process_time()
    block = vectors.block(0)
    made = (time.process_time() - started) / len(block)
    few = block[:COMPARED] / np.sqrt(vectors.dim)
    took = []
    for _ in range(SOURCE_ROUNDS):
        started = time.process_time()
        improve(scores, rows, queries, few, 0)
        took.append((time.process_time() - started) / len(few))
    return (made + min(took)) * US_PER_S


def _resident(latency: dict[str, Any] | None) -> int | None:
    """Memory of the process that is no page of a file."""
    return None if latency is None else round(latency["memory"]["RssAnon"] * 2**20)


def _quiet(measured: dict[str, Any] | None) -> bool:
    """Whether little else ran there: other work only adds time."""
    load = re.search(r"load ([\d.]+)", measured["machine"]) if measured else None
    return load is not None and float(load[1]) <= QUIET_LOAD


def _within(manifest: Manifest) -> dict[str, float] | None:
    """Of the lists that a search of each kind may probe, the share that it does probe."""
    for each in manifest.operating_points:
        if each.search == manifest.search and each.lists_probed and each.lists_probed_of_texts:
            both = zip(KINDS, (each.lists_probed, each.lists_probed_of_texts), strict=True)
            return {kind: round(probed / each.search["nprobe"], 4) for kind, probed in both}
    return None


def _warm(latency: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Of each kind the quickest of all that was measured with the chosen parameters: pages from disk and other work
    only add."""
    again = _by_kind(latency["latency"]["again"])
    same = [each["single"] for each in latency["points"] if each["search"] == latency["search"]]
    return {
        kind: min([times, *({name: each[kind][name] for name in times} for each in same)], key=lambda t: t["p50_ms"])
        for kind, times in again.items()
    }


def _by_kind(found: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {kind: {"p50_ms": each["p50 ms"], "p99_ms": each["p99 ms"]} for kind, each in found["by kind"].items()}


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def _read(path: Path) -> dict[str, Any] | None:
    found: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
    return found


def _write(path: Path, found: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=1)
    write_bytes(path, (text + "\n").encode())
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
