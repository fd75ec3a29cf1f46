"""Operating points: recall and time of a freshly built index at a few search settings, for the operator's eyes.

Queries are stored vectors moved by a little noise, so that no query is an item. A gate measures anew.
"""

import time

import numpy as np

from index_builder.reader import FaissIndex
from index_builder.truth import Rows, exact_top_k
from lookalike.contracts.encoder import Vectors
from lookalike.contracts.manifest import OperatingPoint

QUERIES = 64
DEPTH = 10
NOISE = 0.3
FACTORS = (0.5, 1.0, 2.0)
SEED = 11
ROUNDING = 1e-5


def measure_points(index: FaissIndex, vectors: Rows) -> tuple[OperatingPoint, ...]:
    """Recall@10 against float32 truth and mean ms of single queries, at half, one and two times the settings."""
    queries = _queries(vectors)
    wanted = min(DEPTH, len(vectors))
    last_scores = exact_top_k(vectors, queries, wanted)[0][:, -1]
    base = index.manifest.recipe.search
    scaled = [{name: max(1, round(value * factor)) for name, value in base.items()} for factor in FACTORS]
    return tuple(_measure(index, vectors, queries, last_scores, search) for search in (scaled if base else [{}]))


def _measure(
    index: FaissIndex, vectors: Rows, queries: Vectors, last_scores: Vectors, search: dict[str, int]
) -> OperatingPoint:
    """A found row counts when it is as near as the last true one: of equal pictures, any is right."""
    depth = min(DEPTH, len(vectors))
    index.search_with(search, queries[:1], depth)
    started = time.perf_counter()
    rows = [index.search_with(search, query[None], depth)[1][0] for query in queries]
    mean_ms = (time.perf_counter() - started) * 1000 / len(queries)
    right = sum(
        int((vectors[found[found >= 0]] @ query >= last - ROUNDING).sum())
        for found, query, last in zip(rows, queries, last_scores, strict=True)
    )
    return OperatingPoint(search=search, recall_at_10=right / (depth * len(queries)), mean_ms=round(mean_ms, 4))


def _queries(vectors: Rows) -> Vectors:
    random = np.random.default_rng(SEED)
    rows = np.sort(random.choice(len(vectors), min(QUERIES, len(vectors)), replace=False))
    noise = random.normal(size=(len(rows), vectors.shape[1])).astype(np.float32)
    moved = vectors[rows] + NOISE * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    unit: Vectors = (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)
    return unit
