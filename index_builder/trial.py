"""Trial: how many made axes are coded, and with how many bits each, decided by asking a sample.

The same bytes may hold one bit of every axis or more bits of the first ones; which finds more depends on how the
vectors lie. The sample is coded in every way around the real centres and asked the questions that search is tuned for.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from index_builder.axes import Axes, AxesFit
from index_builder.list_centres import ListCentres, Lists
from index_builder.list_codes import add_codes, empty_codes, packed
from index_builder.memory import TRIAL_ROWS
from index_builder.search_parameters import search_lists
from index_builder.truth import exact_top_k
from index_builder.tune import DEPTH, Questions
from lookalike.contracts.encoder import Vectors

MOST_PROBED = 4_096
"""Lists searched for each question: nearly all rows are to be told apart by their codes."""
CANDIDATES = 40
BITS = (1, 2, 3, 4, 5)
AXES_STEP = 8
NEAR = 0.005
"""Recall so little below the best is as good; then fewer axes are quicker and smaller."""
LOST = 0.001
"""Of the singular values, by finer codes. What they lose bounds recall: of 100,000 drawings asked by words, every one
compared, 0.003 lost finds 0.981 of the true ten, 0.001 0.985, and all axes 0.988."""
FINER_STEP = 16


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tried(_Frozen):
    """Recall of the sample's true ten among the first candidates, of questions that are pictures and words."""

    axes: int
    bits: int
    pictures: float
    texts: float | None

    @property
    def lowest(self) -> float:
        return self.pictures if self.texts is None else min(self.pictures, self.texts)


class CodesFacts(_Frozen):
    """What was chosen and tried, for the manifest. `kept`: share of the singular values that the finer axes have."""

    axes: int
    bits: int
    finer_axes: int
    finer_kept: float
    rows: int
    tried: tuple[Tried, ...]


def choose_codes(
    fit: AxesFit, centres: ListCentres, sample: Vectors, questions: Questions, bits_per_axis: float
) -> CodesFacts:
    """The best way within `bits_per_axis` for each dimension of the space; of ways as good the one of fewest axes."""
    rows = np.linspace(0, len(sample) - 1, min(len(sample), TRIAL_ROWS)).astype(np.int64)
    vectors = np.ascontiguousarray(sample[rows])
    lists = centres.nearest_of(vectors)
    probed = centres.nearest(questions.vectors, min(len(centres), MOST_PROBED))
    truth = exact_top_k(vectors, questions.vectors, min(DEPTH, len(vectors)))[1]
    tried = []
    for count, bits in ways(fit.dim, bits_per_axis):
        found = _found(fit.cut(count), bits, centres, vectors, lists, questions.vectors, probed)
        shares = np.array([np.isin(true, near).mean() for true, near in zip(truth, found, strict=True)])
        texts = questions.are_texts
        said = float(shares[~texts].mean()), float(shares[texts].mean()) if texts.any() else None
        tried.append(Tried(axes=count, bits=bits, pictures=said[0], texts=said[1]))
    enough = max(each.lowest for each in tried) - NEAR
    best = min((each for each in tried if each.lowest >= enough), key=lambda each: each.axes)
    finer = _finer_axes(fit)
    return CodesFacts(
        axes=best.axes,
        bits=best.bits,
        finer_axes=finer,
        finer_kept=round(fit.kept(finer), 6),
        rows=len(vectors),
        tried=tuple(tried),
    )


def ways(dim: int, bits_per_axis: float) -> list[tuple[int, int]]:
    """Numbers of axes and of bits that fit the same bytes, one at least."""
    found = [(min(int(dim * bits_per_axis / bits) // AXES_STEP * AXES_STEP, dim), bits) for bits in BITS]
    return [(count, bits) for count, bits in found if count] or [(dim, 1)]


def _finer_axes(fit: AxesFit) -> int:
    """Fewest that lose at most LOST."""
    return next((n for n in range(FINER_STEP, fit.dim, FINER_STEP) if fit.kept(n) >= 1 - LOST), fit.dim)


def _found(
    axes: Axes, bits: int, centres: ListCentres, vectors: Vectors, lists: Lists, questions: Vectors, probed: Lists
) -> NDArray[np.int64]:
    """Candidates of each question, shape (q, CANDIDATES)."""
    index = empty_codes(axes.of_items(centres.vectors), bits)
    add_codes(index, axes.of_items(vectors), lists)
    return search_lists(packed(index), axes.of_queries(questions), CANDIDATES, probed, None)[1]
