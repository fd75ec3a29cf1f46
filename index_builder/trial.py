"""Trial: how many made axes are coded, decided by asking a sample.

Each axis takes four bits. More of them tell items apart better and take longer to scan; how many are worth it depends
on how the vectors lie. The sample is coded in several ways around the real centres and asked the questions that search
is tuned for.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from index_builder.axes import Axes, AxesFit
from index_builder.list_centres import ListCentres, Lists
from index_builder.list_codes import add_codes, empty_codes, most_axes, numbers_of_axes, packed
from index_builder.memory import TRIAL_ROWS
from index_builder.search_parameters import search_lists
from index_builder.truth import exact_top_k
from index_builder.tune import DEPTH, Questions
from lookalike.contracts.encoder import Vectors

MOST_PROBED = 4_096
"""Lists searched for each question: nearly all rows are to be told apart by their codes."""
CANDIDATES = 20
NEAR = 0.005
"""Recall so little below the best is as good; then fewer axes are quicker and smaller."""
LOST_OF_MISSED = 0.02
"""Of the singular values, by finer codes, for the share of the truth that a search may miss. What they lose bounds
recall: of 100,000 drawings asked by words, every one compared, 0.003 lost finds 0.981 of the true ten, 0.001 0.985, and
all axes 0.988."""
FINER_STEP = 16


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tried(_Frozen):
    """Recall of the sample's true ten among the first candidates, of questions that are pictures and words."""

    axes: int
    pictures: float
    texts: float | None

    @property
    def lowest(self) -> float:
        return self.pictures if self.texts is None else min(self.pictures, self.texts)


class CodesFacts(_Frozen):
    """What was chosen and tried, for the manifest. `kept`: share of the singular values that the finer axes have."""

    axes: int
    finer_axes: int
    finer_kept: float
    rows: int
    tried: tuple[Tried, ...]


class CodedSample:
    """Some rows of the sample with their lists: what codes are learned from and tried on."""

    def __init__(self, centres: ListCentres, sample: Vectors) -> None:
        rows = np.linspace(0, len(sample) - 1, min(len(sample), TRIAL_ROWS)).astype(np.int64)
        self.centres, self.vectors = centres, np.ascontiguousarray(sample[rows])
        self.lists: Lists = centres.nearest_of(self.vectors)

    def empty_codes(self, axes: Axes) -> Any:
        """An index of empty lists for items on these axes."""
        return empty_codes(axes.of_items(self.centres.vectors), axes.of_items(self.vectors), self.lists)


def choose_codes(fit: AxesFit, coded: CodedSample, questions: Questions, code_bytes: int, recall: float) -> CodesFacts:
    """The best number of axes within so many bytes, of those as good the least. `recall`: that search is tuned for."""
    probed = coded.centres.nearest(questions.vectors, min(len(coded.centres), MOST_PROBED))
    truth = exact_top_k(coded.vectors, questions.vectors, min(DEPTH, len(coded.vectors)))[1]
    tried = []
    for count in numbers_of_axes(most_axes(fit.dim, code_bytes)):
        found = _found(fit.cut(count), coded, questions.vectors, probed)
        shares = np.array([np.isin(true, near).mean() for true, near in zip(truth, found, strict=True)])
        texts = questions.are_texts
        said = float(shares[~texts].mean()), float(shares[texts].mean()) if texts.any() else None
        tried.append(Tried(axes=count, pictures=said[0], texts=said[1]))
    enough = max(each.lowest for each in tried) - NEAR
    best = next(each for each in tried if each.lowest >= enough)
    finer = _finer_axes(fit, LOST_OF_MISSED * (1 - recall))
    return CodesFacts(
        axes=best.axes,
        finer_axes=finer,
        finer_kept=round(fit.kept(finer), 6),
        rows=len(coded.vectors),
        tried=tuple(tried),
    )


def _finer_axes(fit: AxesFit, lost: float) -> int:
    """Fewest that lose at most so much."""
    return next((n for n in range(FINER_STEP, fit.dim, FINER_STEP) if fit.kept(n) >= 1 - lost), fit.dim)


def _found(axes: Axes, coded: CodedSample, questions: Vectors, probed: Lists) -> NDArray[np.int64]:
    """Candidates of each question, shape (q, CANDIDATES)."""
    index = coded.empty_codes(axes)
    add_codes(index, axes.of_items(coded.vectors), coded.lists)
    return search_lists(packed(index), axes.of_queries(questions), CANDIDATES, probed, None)[1]
