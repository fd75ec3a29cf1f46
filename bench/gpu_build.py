"""What a GPU saves of a build: training, finding lists and making a graph, with the CPU and the GPU in turn.

python bench/gpu_build.py [--items 1000000] [--dim 512] [--lists 16384] [--points 64] [--graph 200000] [--only gpu]

Vectors are drawn, which none of the three minds: their times depend on counts only, but for rounds of a graph. Answers
are compared beside the times. One JSON line each, and a last one about the machine.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np

from index_builder.clustering import find_centres
from index_builder.device import Device, gpu_graph_bytes, gpu_lists_bytes, lacking
from index_builder.gpu import CentresOnGpu
from index_builder.graphs import fill
from index_builder.list_centres import ListCentres
from index_builder.recipes import load_recipe
from index_builder.truth import exact_top_k
from lookalike.contracts.encoder import Vectors

BLOCK = 8_192
LATENT, NOISE = 32, 0.3
QUESTIONS, DEEP = 500, 128


class Quiet:
    """Nobody watches."""

    def advance(self, count: int) -> None: ...


def drawn(items: int, dim: int, seed: int) -> Vectors:
    """Unit vectors near a plane of few dimensions, as embeddings lie, shape (items, dim)."""
    random, plane = np.random.default_rng(seed), np.random.default_rng(1).normal(size=(LATENT, dim)).astype(np.float32)
    found = np.empty((items, dim), np.float32)
    for start in range(0, items, BLOCK):
        rows = len(found[start : start + BLOCK])
        some = random.standard_normal((rows, LATENT), np.float32) @ plane / LATENT**0.5
        found[start : start + rows] = some + NOISE * random.standard_normal((rows, dim), np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def timed(what: str, device: Device, rows: int, work: Callable[[], Any]) -> Any:
    """Do it, and print how long it took."""
    started = time.perf_counter()
    done = work()
    seconds = time.perf_counter() - started
    line = {"what": what, "device": device, "rows": rows, "seconds": round(seconds, 2), "per_s": round(rows / seconds)}
    print(json.dumps(line), flush=True)
    return done


def lists(args: argparse.Namespace, vectors: Vectors, devices: list[Device]) -> None:
    """Train on as many vectors as a build would, then find the list of every vector."""
    sample = vectors[: args.lists * args.points]
    assigned: dict[Device, Any] = {}
    centres: Vectors | None = None
    for device in devices:
        name = f"train {args.lists} lists"
        found = timed(name, device, len(sample), lambda on=device: find_centres(sample, args.lists, on))
        near = float((vectors[:BLOCK] @ found.T).max(axis=1).mean())
        print(json.dumps({"what": "mean product with the nearest centre", "device": device, "is": round(near, 5)}))
        centres = found if centres is None else centres  # lists are compared around the same ones
        finder = CentresOnGpu(centres) if device == "gpu" else ListCentres.of(centres)
        finder.nearest_of(vectors[:BLOCK])
        assigned[device] = timed("find lists", device, len(vectors), lambda by=finder: by.nearest_of(vectors))
    if len(assigned) == 2:
        agree = float((assigned["cpu"] == assigned["gpu"]).mean())
        print(json.dumps({"what": "same list on both", "share": round(agree, 5)}))


def graph(args: argparse.Namespace, vectors: Vectors, devices: list[Device]) -> None:
    """Make a graph, and ask it."""
    recipe, some, questions = load_recipe("hnsw"), vectors[: args.graph], drawn(QUESTIONS, args.dim, 3)
    true = exact_top_k(some, questions, 10)[1]
    parts = np.array_split(some, -(-len(some) // BLOCK))
    for device in devices:
        made = timed(
            "graph", device, len(some), lambda on=device: fill(recipe, args.dim, len(some), parts, on, Quiet())
        )
        rows = made.search(questions, 10, params=faiss.SearchParametersHNSW(efSearch=DEEP))[1]
        right = float(np.mean([np.isin(one, other).mean() for one, other in zip(true, rows, strict=True)]))
        print(json.dumps({"what": "recall@10 of the graph", "device": device, "depth": DEEP, "is": round(right, 4)}))


def main() -> None:
    """Time it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, given in {"items": 1_000_000, "dim": 512, "lists": 16_384, "points": 64, "graph": 200_000}.items():
        parser.add_argument(f"--{name}", type=int, default=given)
    parser.add_argument("--only", choices=("cpu", "gpu"))
    args = parser.parse_args()
    devices: list[Device] = [args.only] if args.only else ["cpu", "gpu"]
    needed = max(gpu_lists_bytes(args.lists, args.dim), gpu_graph_bytes(args.graph, args.dim))
    if "gpu" in devices and (lack := lacking(needed)):
        parser.error(f"{lack}; --only cpu times the CPU alone")
    vectors = drawn(args.items, args.dim, 2)
    lists(args, vectors, devices)
    graph(args, vectors, devices)
    machine = {"cpu": platform.processor() or platform.machine(), "cores": len(os.sched_getaffinity(0))}
    print(json.dumps(machine | {"threads": faiss.omp_get_max_threads(), "faiss": faiss.__version__}))


if __name__ == "__main__":
    main()
