"""Which codes, lists and quantisers win: recall of each by bytes and time, on real vectors. A study, not a gate.

    python bench/codes.py finer --vectors var/bench/vectors [--items 200000]
    python bench/codes.py first | coarse | training

`finer`: codes that candidates are compared by at last; every item is compared by them, so recall is what they can give
at best. `first`: codes that lists are scanned by; recall of the true ten among the candidates. `coarse`: how the lists
are found. `training`: how the centres of the lists are found. Times are of one thread.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from index_builder.clustering import find_centres, nearest_centres
from index_builder.truth import exact_top_k
from lookalike.contracts.encoder import Vectors

FAISS: Any = faiss
K = 10
FINER = (
    "SQ4", "SQ6", "SQ8", "SQfp16", "RaBitQ4", "RaBitQ6", "EDEN4", "EDEN6", "EDEN8",
    "PCAR384,SQ6", "PCAR384,SQ8", "PCAR256,SQ8", "PCAR320,SQ6", "RR512,SQ6",
)  # fmt: skip
FIRST = ("RaBitQfs", "RaBitQ", "RaBitQfs2", "EDEN", "PQ64x4fs", "PQ128x4fs", "PQ64")
DEPTHS = (1, 2, 4, 8, 16, 32)
ADD_ROWS = 8_192


class Data(NamedTuple):
    """Items, queries of both kinds, and the rows of their true ten."""

    items: Vectors
    pictures: Vectors
    texts: Vectors
    picture_truth: NDArray[np.int64]
    text_truth: NDArray[np.int64]


def main() -> None:
    """Run one study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=("finer", "first", "coarse", "training"))
    parser.add_argument("--vectors", type=Path, default=Path("var/bench/vectors"))
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--lists", type=int, default=2_048)
    chosen = parser.parse_args()
    data = _read(chosen.vectors, chosen.items, chosen.queries)
    faiss.omp_set_num_threads(1)
    studies = {"finer": _finer, "first": _first, "coarse": _coarse, "training": _training}
    print(f"{len(data.items):,} items of {data.items.shape[1]} dimensions, {len(data.pictures)} queries of each kind")
    studies[chosen.study](data, chosen.lists)


def _read(folder: Path, items: int, queries: int) -> Data:
    stored = np.load(folder / "items.npy", mmap_mode="r")
    rows = np.linspace(0, len(stored) - 1, min(items, len(stored))).astype(np.int64)
    vectors = np.ascontiguousarray(stored[rows])
    pictures, texts = (
        np.ascontiguousarray(np.load(folder / f"query_{kind}.npy")[:: max(1, 2_000 // queries)])
        for kind in ("pictures", "texts")
    )
    return Data(vectors, pictures, texts, exact_top_k(vectors, pictures, K)[1], exact_top_k(vectors, texts, K)[1])


def _finer(data: Data, lists: int) -> None:
    print(f"{'code':>14} {'bytes':>6} {'pictures':>9} {'texts':>7} {'encode µs':>10} {'decode µs':>10}")
    for factory in FINER:
        index = _made(factory, data)
        encode = _per_row(partial(index.sa_encode, data.items[:ADD_ROWS]), ADD_ROWS)
        codes = index.sa_encode(data.items[:ADD_ROWS])
        decode = _per_row(partial(index.sa_decode, codes), ADD_ROWS)
        found = [_nearest_decoded(index, data.items, queries) for queries in (data.pictures, data.texts)]
        pictures, texts = _recall(found[0], data.picture_truth), _recall(found[1], data.text_truth)
        print(f"{factory:>14} {index.sa_code_size():6} {pictures:9.4f} {texts:7.4f} {encode:10.2f} {decode:10.2f}")


def _made(factory: str, data: Data) -> Any:
    index = faiss.index_factory(data.items.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    index.train(data.items)
    return index


def _nearest_decoded(index: Any, items: Vectors, queries: Vectors) -> NDArray[np.int64]:
    """As a search does that decodes its candidates: inner products with the decoded vectors."""
    decoded = np.concatenate([index.sa_decode(index.sa_encode(block)) for block in _blocks(items)])
    return exact_top_k(decoded, queries, K)[1]


def _first(data: Data, lists: int) -> None:
    centres = find_centres(data.items, lists)
    print(f"recall of the true {K} among the first {K} x depth, {lists} lists, half of them probed; pictures / texts")
    print(f"{'code':>10} {'bytes':>6} {'add µs':>7} {'query µs':>9}  " + "  ".join(f"{d:>13}" for d in DEPTHS))
    for code in FIRST:
        index: Any = faiss.index_factory(data.items.shape[1], f"IVF{lists},{code}", faiss.METRIC_INNER_PRODUCT)
        index.quantizer.add(centres)
        index.train(data.items)
        add = _per_row(partial(_add, index, data.items), len(data.items))
        index.nprobe = lists // 2
        pictures, texts = (index.search(queries, K * max(DEPTHS))[1] for queries in (data.pictures, data.texts))
        took = _per_row(partial(_one_by_one, index, data.pictures[:100]), 100)
        first = [(pictures[:, : K * depth], texts[:, : K * depth]) for depth in DEPTHS]
        recalls = [f"{_recall(p, data.picture_truth):.3f} / {_recall(t, data.text_truth):.3f}" for p, t in first]
        print(f"{code:>10} {index.code_size:6} {add:7.1f} {took:9.0f}  " + "  ".join(recalls))


def _coarse(data: Data, lists: int) -> None:
    """The lists nearest to a query: which share of those that a full comparison finds, in how much time."""
    centres = find_centres(data.items, lists)
    probes = max(8, lists // 64)
    truth = exact_top_k(centres, data.pictures, probes)[1], exact_top_k(centres, data.texts, probes)[1]
    print(f"{lists} lists, the nearest {probes}: share found (pictures / texts), µs a query")
    for name in ("Flat", "SQ8", "SQbf16", "HNSW16,Flat", "HNSW32,Flat", "HNSW32,SQ8", "HNSW32,SQbf16"):
        index: Any = faiss.index_factory(centres.shape[1], name, faiss.METRIC_INNER_PRODUCT)
        index.train(centres)
        index.add(centres)
        for deep in (1, 2, 4) if "HNSW" in name else (0,):
            given = FAISS.SearchParametersHNSW(efSearch=deep * probes) if deep else None
            found = [index.search(queries, probes, params=given)[1] for queries in (data.pictures, data.texts)]
            shares = " / ".join(f"{_recall(rows, true):.4f}" for rows, true in zip(found, truth, strict=True))
            took = _per_row(partial(_one_by_one, index, data.pictures[:100], probes, given), 100)
            print(f"{name:>14} ef {deep} x  {shares} {took:8.0f}")


def _training(data: Data, lists: int) -> None:
    """Centres by several ways: mean distance to the nearest one, imbalance, seconds."""
    ways: dict[str, Callable[[], Vectors]] = {
        "k-means, 12 rounds": lambda: _plain(data.items, lists),
        "as built": lambda: find_centres(data.items, lists),
        "super k-means": lambda: _super(data.items, lists),
    }
    for name, way in ways.items():
        started = time.process_time()
        centres = way()
        took = time.process_time() - started
        nearest = nearest_centres(centres, data.items)
        distance = float(np.linalg.norm(data.items - centres[nearest], axis=1).mean())
        filled = np.bincount(nearest, minlength=lists).astype(np.float64)
        imbalance = lists * (filled**2).sum() / filled.sum() ** 2
        print(f"{name:>20}: distance {distance:.4f}, imbalance {imbalance:.3f}, {took:.1f} s of processor")


def _plain(items: Vectors, lists: int) -> Vectors:
    clustering = faiss.Clustering(items.shape[1], lists)
    clustering.niter, clustering.spherical, clustering.seed = 12, True, 1
    clustering.max_points_per_centroid = len(items)
    clustering.train(items, faiss.IndexFlatIP(items.shape[1]))
    return np.array(faiss.vector_to_array(clustering.centroids).reshape(lists, -1))


def _super(items: Vectors, lists: int) -> Vectors:
    given = FAISS.SuperKMeansParameters()
    given.niter, given.spherical = 12, True
    clustering = FAISS.SuperKMeans(items.shape[1], lists, given)
    clustering.train(items)
    centres = np.array(faiss.vector_to_array(clustering.centroids).reshape(lists, -1))
    return np.asarray(centres / np.linalg.norm(centres, axis=1, keepdims=True), dtype=np.float32)


def _add(index: Any, items: Vectors) -> None:
    for block in _blocks(items):
        index.add(block)


def _blocks(items: Vectors) -> Iterator[Vectors]:
    return (items[start : start + ADD_ROWS] for start in range(0, len(items), ADD_ROWS))


def _one_by_one(index: Any, queries: Vectors, k: int = K * DEPTHS[-1], given: Any = None) -> None:
    for query in queries:
        index.search(query[None], k, params=given)


def _per_row(work: Callable[[], object], rows: int) -> float:
    """Microseconds of processor time per row."""
    started = time.process_time()
    work()
    return (time.process_time() - started) * 1e6 / rows


def _recall(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    width = truth.shape[1]
    return float(np.mean([len(set(a.tolist()) & set(b.tolist())) / width for a, b in zip(found, truth, strict=True)]))


if __name__ == "__main__":
    main()
