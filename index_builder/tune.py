"""Operating points: recall and time of a freshly built index at a few search settings, for the operator's eyes.

Questions are stored vectors moved by a little noise, so that none is an item. Their truth is found where the vectors
are: each shard knows its own best, and the best of all are among them. A gate measures anew.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index_builder.reader import FaissIndex
from index_builder.truth import Rows, best, exact_top_k
from lookalike.contracts.encoder import Vectors
from lookalike.contracts.manifest import OperatingPoint

QUESTIONS = 64
DEPTH = 10
KEPT = 100
"""Best rows kept per question: among them are those that are as near as the tenth."""
NOISE = 0.3
FACTORS = (0.5, 1.0, 2.0)
SEED = 11
ROUNDING = 1e-5


@dataclass(frozen=True)
class Truth:
    """The best rows of each question: `questions`, shape (q, dim); `scores` and `rows`, shape (q, KEPT), best first."""

    questions: Vectors
    scores: Vectors
    rows: NDArray[np.int64]


def find_truth(vectors: Rows, questions: Vectors) -> Truth:
    """By comparing all of `vectors`."""
    return Truth(questions, *exact_top_k(vectors, questions, KEPT))


def joined(parts: Sequence[Truth], starts: Sequence[int]) -> Truth:
    """Of all rows together, where those of each part begin at its start."""
    rows = [np.where(part.rows < 0, -1, part.rows + start) for part, start in zip(parts, starts, strict=True)]
    scores = np.concatenate([part.scores for part in parts], axis=1)
    return Truth(parts[0].questions, *best(scores, np.concatenate(rows, axis=1), KEPT))


def measure_points(index: FaissIndex, truth: Truth) -> tuple[OperatingPoint, ...]:
    """Recall@10 against float32 truth and mean ms of single queries, at half, one and two times the settings."""
    base = index.manifest.recipe.search
    scaled = [{name: max(1, round(value * factor)) for name, value in base.items()} for factor in FACTORS]
    return tuple(_measure(index, truth, search) for search in (scaled if base else [{}]))


def draw_questions(vectors: Rows) -> Vectors:
    """Questions, shape (at most QUESTIONS, dim), the same ones for the same vectors."""
    random = np.random.default_rng(SEED)
    rows = np.sort(random.choice(len(vectors), min(QUESTIONS, len(vectors)), replace=False))
    noise = random.normal(size=(len(rows), vectors.shape[1])).astype(np.float32)
    moved = vectors[rows] + NOISE * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    unit: Vectors = (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _measure(index: FaissIndex, truth: Truth, search: dict[str, int]) -> OperatingPoint:
    """A found row counts when it is as near as the last true one: of equal pictures, any is right."""
    depth = min(DEPTH, index.manifest.items)
    index.search_with(search, truth.questions[:1], depth)
    started = time.perf_counter()
    found = [index.search_with(search, question[None], depth)[1][0] for question in truth.questions]
    mean_ms = (time.perf_counter() - started) * 1000 / len(truth.questions)
    right = sum(
        len(set(rows.tolist()) & set(known[scores >= scores[depth - 1] - ROUNDING].tolist()))
        for rows, scores, known in zip(found, truth.scores, truth.rows, strict=True)
    )
    return OperatingPoint(search=search, recall_at_10=right / (depth * len(found)), mean_ms=round(mean_ms, 4))
