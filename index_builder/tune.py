"""Tuning: the cheapest search parameters that hold the recall asked for, and the whole curve of recall against time.

Questions are stored vectors moved by a little noise, so that none is an item, and titles of items as the encoder writes
them: words lie away from all pictures and are harder to answer. Their truth is found where the vectors are: each shard
knows its own best, and the best of all are among them. Choice is by recall and a count of the work, so that the same
vectors give the same parameters; times are measured for the operator. A gate measures anew.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from index_builder.reader import FaissIndex
from index_builder.truth import Rows, best, exact_top_k
from lookalike.contracts.encoder import Vectors
from lookalike.contracts.manifest import OperatingPoint

EncodeTexts = Callable[[Sequence[str]], Vectors]

QUESTIONS = 256
"""Of each kind."""
DEPTH = 10
KEPT = 100
"""Best rows kept per question: among them are those that are as near as the tenth."""
NOISE = 0.3
SEED = 11
ROUNDING = 1e-5
PROBES = tuple(sorted({round(2 ** (half / 2)) for half in range(21)}))
FACTORS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
GRAPH_DEPTHS = tuple(sorted({round(16 * 2 ** (half / 2)) for half in range(13)}))
ENOUGH = 0.9995
"""Beyond this recall nothing deeper is tried."""
REFINED_ROW = 40.0
"""Work of one candidate's finer code, in rows of a list that are scanned."""


@dataclass(frozen=True)
class Questions:
    """`vectors`, shape (q, dim); `are_texts`, shape (q,)."""

    vectors: Vectors
    are_texts: NDArray[np.bool_]


@dataclass(frozen=True)
class Truth:
    """The best rows of each question: `scores` and `rows`, shape (q, KEPT), best first."""

    questions: Questions
    scores: Vectors
    rows: NDArray[np.int64]


def draw_questions(
    vectors: Rows, titles: pa.ChunkedArray | None = None, encode_texts: EncodeTexts | None = None
) -> Questions:
    """At most QUESTIONS of each kind, the same ones for the same items; `titles[i]` belongs to `vectors[i]`."""
    random = np.random.default_rng(SEED)
    rows = np.sort(random.choice(len(vectors), min(QUESTIONS, len(vectors)), replace=False))
    noise = random.normal(size=(len(rows), vectors.shape[1])).astype(np.float32)
    moved = vectors[rows] + NOISE * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    pictures = (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)
    if encode_texts is None or titles is None:
        return Questions(pictures, np.zeros(len(pictures), bool))
    texts = encode_texts(titles.take(pa.array(rows)).to_pylist())
    return Questions(np.concatenate([pictures, texts]), np.arange(len(pictures) + len(texts)) >= len(pictures))


def find_truth(vectors: Rows, questions: Questions) -> Truth:
    """By comparing all of `vectors`."""
    return Truth(questions, *exact_top_k(vectors, questions.vectors, KEPT))


def joined(parts: Sequence[Truth], starts: Sequence[int]) -> Truth:
    """Of all rows together, where those of each part begin at its start."""
    rows = [np.where(part.rows < 0, -1, part.rows + start) for part, start in zip(parts, starts, strict=True)]
    scores = np.concatenate([part.scores for part in parts], axis=1)
    return Truth(parts[0].questions, *best(scores, np.concatenate(rows, axis=1), KEPT))


def tune(index: FaissIndex, truth: Truth, recall: float) -> tuple[dict[str, int], tuple[OperatingPoint, ...]]:
    """The cheapest parameters that hold `recall` for every kind of question (the best there are if none does), and the
    points that no cheaper one equals, cheapest first."""
    tried = sorted(_tried(index, truth), key=lambda each: each.work)
    front: list[_Tried] = []
    for each in tried:
        if not front or each.lowest > front[-1].lowest:
            front.append(each)
    chosen = next((each for each in front if each.lowest >= recall), front[-1])
    return chosen.search, tuple(_timed(index, truth, each) for each in front)


@dataclass(frozen=True)
class _Tried:
    search: dict[str, int]
    work: float
    pictures: float
    texts: float | None

    @property
    def lowest(self) -> float:
        return self.pictures if self.texts is None else min(self.pictures, self.texts)


def _tried(index: FaissIndex, truth: Truth) -> Iterator[_Tried]:
    """Every setting worth trying; deeper ones only while they find more."""
    recipe, items = index.manifest.recipe, index.manifest.items
    depth = min(DEPTH, items)
    if recipe.nlist is not None:
        factors = [factor for factor in FACTORS if factor * depth <= items] or [1]
        for nprobe in (probes for probes in PROBES if probes <= recipe.nlist):
            found = index.search_depths({"nprobe": nprobe}, truth.questions.vectors, depth, factors)
            scanned = nprobe * items / recipe.nlist
            here = [
                _judged({"nprobe": nprobe, "k_factor": factor}, scanned + factor * depth * REFINED_ROW, rows, truth)
                for factor, rows in found.items()
            ]
            yield from here
            if max(each.lowest for each in here) >= ENOUGH:
                return
    elif "efSearch" in recipe.search:
        for deep in GRAPH_DEPTHS:
            rows = index.search_with({"efSearch": deep}, truth.questions.vectors, depth)[1]
            last = _judged({"efSearch": deep}, deep, rows, truth)
            yield last
            if last.lowest >= ENOUGH:
                return
    else:
        yield _judged({}, items, index.search_with({}, truth.questions.vectors, depth)[1], truth)


def _judged(search: dict[str, int], work: float, found: NDArray[np.int64], truth: Truth) -> _Tried:
    """A found row counts when it is as near as the last true one: of equal pictures, any is right."""
    depth = found.shape[1]
    right = np.array(
        [
            len(set(rows.tolist()) & set(known[scores >= scores[depth - 1] - ROUNDING].tolist())) / depth
            for rows, scores, known in zip(found, truth.scores, truth.rows, strict=True)
        ]
    )
    texts = truth.questions.are_texts
    return _Tried(search, work, float(right[~texts].mean()), float(right[texts].mean()) if texts.any() else None)


def _timed(index: FaissIndex, truth: Truth, tried: _Tried) -> OperatingPoint:
    depth = min(DEPTH, index.manifest.items)
    questions = truth.questions.vectors[:: max(1, len(truth.questions.vectors) // 64)]
    index.search_with(tried.search, questions[:1], depth)
    started = time.perf_counter()
    for question in questions:
        index.search_with(tried.search, question[None], depth)
    mean_ms = (time.perf_counter() - started) * 1000 / len(questions)
    return OperatingPoint(
        search=tried.search, recall_at_10=tried.pictures, recall_at_10_of_texts=tried.texts, mean_ms=round(mean_ms, 4)
    )
