"""Tuning: the cheapest search parameters that hold the recall asked for, and the whole curve of recall against time.

Questions are stored vectors moved by a little noise, so that none is an item, and titles of items as the encoder writes
them: words lie away from all pictures and are harder to answer. Their truth is found where the vectors are: each shard
knows its own best, and the best of all are among them. Choice is by recall and a count of the work, so that the same
vectors give the same parameters; times are measured for the operator. A gate measures anew.

How many lists are needed is decided by words. For what lies nearer to its lists a margin leaves most of them out: the
narrowest that loses at most half of what a kind finds beyond the recall asked for. The other half is for queries that
lie farther off than the questions, as pictures taken by shoppers do.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from index_builder.artifact import REFINE_NAME
from index_builder.plan import COLD_ROW_WORK, ROW_WORK
from index_builder.reader import FaissIndex
from index_builder.truth import Rows, best, exact_top_k, improve
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
MARGINS = (20, 30, 40, 50, 60, 80, 100, 120, 150, 200, 250, 300, 400)
"""Thousandths of the product of unit vectors; see `list_search.py`."""
PROBES = tuple(sorted({round(2 ** (half / 2)) for half in range(25)}))
FACTORS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
GRAPH_DEPTHS = tuple(sorted({round(16 * 2 ** (half / 2)) for half in range(13)}))
ASKED_TOGETHER = 32
ENOUGH = 0.9995
"""Beyond this recall nothing deeper is tried."""
NEARLY = 0.002
"""Where none holds the recall asked for, so much less than the best is as good: the last of it costs the most."""
MORE_WORK = 4.0
"""Beyond so many times the work of what is chosen no lists are probed: the curve shows what more recall would cost."""
WORTHWHILE = 0.8
"""A margin that leaves more of the lists than this is not worth having."""
MORE_PROBED = 1.01
"""Where the margin leaves out nearly all lists of a deeper search, it is not tried."""
CACHED_BYTES = 8 * 2**30
"""Of finer codes, about so many lie in the page cache of a machine that such an artifact is served from."""


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
    rows = _drawn(random, len(vectors))
    noise = random.normal(size=(len(rows), vectors.shape[1])).astype(np.float32)
    moved = vectors[rows] + NOISE * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    pictures = (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)
    if encode_texts is None or titles is None:
        return Questions(pictures, np.zeros(len(pictures), bool))
    texts = encode_texts(titles.take(pa.array(rows)).to_pylist())
    return Questions(np.concatenate([pictures, texts]), np.arange(len(pictures) + len(texts)) >= len(pictures))


def question_rows(count: int) -> NDArray[np.int64]:
    """Of so many rows those that `draw_questions` makes questions of, ascending."""
    return _drawn(np.random.default_rng(SEED), count)


def _drawn(random: np.random.Generator, count: int) -> NDArray[np.int64]:
    return np.sort(random.choice(count, min(QUESTIONS, count), replace=False))


def find_truth(vectors: Rows, questions: Questions) -> Truth:
    """By comparing all of `vectors`."""
    return Truth(questions, *exact_top_k(vectors, questions.vectors, KEPT))


def no_truth(questions: Questions) -> Truth:
    """Of no rows yet."""
    shape = len(questions.vectors), KEPT
    return Truth(questions, np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int64))


def learn(truth: Truth, block: Vectors, start: int) -> None:
    """Let the rows from `start` on into `truth`, in place."""
    improve(truth.scores, truth.rows, truth.questions.vectors, block, start)


def joined(parts: Sequence[Truth], starts: Sequence[int]) -> Truth:
    """Of all rows together, where those of each part begin at its start."""
    scores, rows = parts[0].scores, np.where(parts[0].rows < 0, -1, parts[0].rows + starts[0])
    for part, start in zip(parts[1:], starts[1:], strict=True):
        moved = np.where(part.rows < 0, -1, part.rows + start)
        both = np.concatenate([scores, part.scores], axis=1), np.concatenate([rows, moved], axis=1)
        scores, rows = best(*both, KEPT)
    return Truth(parts[0].questions, scores, rows)


def tune(index: FaissIndex, truth: Truth, recall: float) -> tuple[dict[str, int], tuple[OperatingPoint, ...]]:
    """The cheapest parameters that hold `recall` for every kind of question (nearly the best there is, if none do), and
    the points that no cheaper one equals, cheapest first."""
    truth = _tellable(truth)
    front = _front(_tried(index, truth, recall))
    chosen = _chosen(front, recall)
    margin = _margin(index, truth, chosen, recall) if index.manifest.recipe.nlist is not None else None
    if margin is not None:
        front = _front(_tried(index, truth, recall, {"margin": margin}))
        chosen = _chosen(front, recall)
    return chosen.search, tuple(_measured(index, truth, each) for each in front)


@dataclass(frozen=True)
class _Tried:
    search: dict[str, int]
    work: float
    pictures: float
    texts: float | None
    lists: tuple[float | None, float | None]
    """Probed on average for a picture, and for a text."""

    @property
    def lowest(self) -> float:
        return self.pictures if self.texts is None else min(self.pictures, self.texts)


def _front(tried: Iterable[_Tried]) -> list[_Tried]:
    """Those that no cheaper one equals, cheapest first."""
    front: list[_Tried] = []
    for each in sorted(tried, key=lambda each: each.work):
        if not front or each.lowest > front[-1].lowest:
            front.append(each)
    return front


def _chosen(front: list[_Tried], recall: float) -> _Tried:
    best_found = front[-1].lowest
    enough = recall if best_found >= recall else best_found - NEARLY
    return next(each for each in front if each.lowest >= enough)


def _margin(index: FaissIndex, truth: Truth, chosen: _Tried, recall: float) -> int | None:
    """The narrowest that leaves enough of either kind at this setting; None where none saves much."""
    depth, factor = min(DEPTH, index.manifest.items), chosen.search["k_factor"]
    for margin in MARGINS:
        search = chosen.search | {"margin": margin}
        if index.lists_probed(search, truth.questions.vectors, depth).mean() > WORTHWHILE * chosen.search["nprobe"]:
            return None
        rows = _by_depths(index, search, truth.questions.vectors, depth, [factor])[factor]
        within = _judged(search, 0.0, rows, truth)
        both = (within.pictures, chosen.pictures), (within.texts or 0.0, chosen.texts or 0.0)
        if all(found >= before - max(before - recall, 0.0) / 2 for found, before in both):
            return margin
    return None


def _tried(
    index: FaissIndex, truth: Truth, recall: float, more: Mapping[str, int] = MappingProxyType({})
) -> Iterator[_Tried]:
    """Every setting worth trying; deeper ones only while they find more, and for not too much work.

    `more`: of every search of lists.
    """
    recipe, items = index.manifest.recipe, index.manifest.items
    depth = min(DEPTH, items)
    if recipe.nlist is not None:
        factors = [factor for factor in FACTORS if factor * depth <= items] or [1]
        refined, cheapest, probed = depth * _refined_row(index), np.inf, 0.0
        for nprobe in (probes for probes in PROBES if probes <= recipe.nlist):
            search = {"nprobe": nprobe, **more}
            lists = index.lists_probed(search, truth.questions.vectors, depth)
            before, probed = probed, float(lists.mean())
            scanned = probed * items / recipe.nlist
            if scanned > MORE_WORK * cheapest or probed < MORE_PROBED * before:
                return
            found = _by_depths(index, search, truth.questions.vectors, depth, factors)
            here = [
                _judged(search | {"k_factor": factor}, scanned + factor * refined, rows, truth, lists)
                for factor, rows in found.items()
            ]
            yield from here
            cheapest = min([cheapest, *(each.work for each in here if each.lowest >= recall)])
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


def _by_depths(
    index: FaissIndex, search: dict[str, int], questions: Vectors, depth: int, factors: Sequence[int]
) -> dict[int, NDArray[np.int64]]:
    """A few questions at a time: pages of the candidates' codes count as memory of the process."""
    found: dict[int, list[NDArray[np.int64]]] = {factor: [] for factor in factors}
    for first in range(0, len(questions), ASKED_TOGETHER):
        part = index.search_depths(search, questions[first : first + ASKED_TOGETHER], depth, factors)
        index.let_go()
        for factor, rows in part.items():
            found[factor].append(rows)
    return {factor: np.concatenate(rows) for factor, rows in found.items()}


def _refined_row(index: FaissIndex) -> float:
    """Work of one candidate's finer code, in rows of a list that are scanned: most come from disk where codes are many.

    By their size and not by this machine, so that the same vectors give the same parameters.
    """
    codes = index.manifest.files.get(REFINE_NAME)
    cold = 0.0 if codes is None else max(0.0, 1 - CACHED_BYTES / codes.bytes)
    return ROW_WORK + cold * (COLD_ROW_WORK - ROW_WORK)


def _judged(
    search: dict[str, int],
    work: float,
    found: NDArray[np.int64],
    truth: Truth,
    lists: NDArray[np.int64] | None = None,
) -> _Tried:
    """A found row counts when it is as near as the last true one: of equal pictures, any is right.

    `lists`: probed for each question.
    """
    near = truth.scores >= truth.scores[:, found.shape[1] - 1, None] - ROUNDING
    right = ((found[:, :, None] == truth.rows[:, None]) & near[:, None]).any(axis=2).mean(axis=1)
    texts = truth.questions.are_texts
    probed = (None, None) if lists is None else (_mean(lists[~texts]), _mean(lists[texts]))
    return _Tried(search, work, float(right[~texts].mean()), _mean(right[texts]), probed)


def _mean(values: NDArray[Any]) -> float | None:
    return float(values.mean()) if len(values) else None


def _measured(index: FaissIndex, truth: Truth, tried: _Tried) -> OperatingPoint:
    depth = min(DEPTH, index.manifest.items)
    pictures, words = (None if probed is None else round(probed, 1) for probed in tried.lists)
    questions = truth.questions.vectors[:: max(1, len(truth.questions.vectors) // 64)]
    index.search_with(tried.search, questions[:1], depth)
    started = time.perf_counter()
    for question in questions:
        index.search_with(tried.search, question[None], depth)
    mean_ms = (time.perf_counter() - started) * 1000 / len(questions)
    index.let_go()
    return OperatingPoint(
        search=tried.search,
        recall_at_10=tried.pictures,
        recall_at_10_of_texts=tried.texts,
        lists_probed=pictures,
        lists_probed_of_texts=words,
        mean_ms=round(mean_ms, 4),
    )


def _tellable(truth: Truth) -> Truth:
    """Without questions of which more rows are as near as the tenth than truth holds: whether a found row is one of
    them cannot be told."""
    known = truth.scores[:, -1] < truth.scores[:, min(DEPTH, truth.scores.shape[1]) - 1] - ROUNDING
    if known.all() or not known.any():
        return truth
    questions = Questions(truth.questions.vectors[known], truth.questions.are_texts[known])
    return Truth(questions, truth.scores[known], truth.rows[known])
