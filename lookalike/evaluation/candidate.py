"""All that is measured on a candidate index, in one call: coverage, stored vectors, recall, labels, churn.

Nothing here judges; `lookalike.quality.gate` holds the figures against the bars.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from lookalike.contracts.encoder import Vectors
from lookalike.contracts.item_keys import NO_PLACE, keys_of, lowest
from lookalike.contracts.query import Filter
from lookalike.contracts.row_set import RowSet
from lookalike.contracts.sealed_index import SealedIndex
from lookalike.evaluation.bootstrap import Interval, mean_interval, paired_difference
from lookalike.evaluation.filter_cases import FilterCase
from lookalike.evaluation.label import Labels, LabelValues, ask, label_values, overlap
from lookalike.evaluation.metrics import Values
from lookalike.evaluation.truth import Answered, Asked, Reference, compare

K = 10
FILTER_QUESTIONS = 100
"""Questions of each kind that are asked under each filter."""


@dataclass(frozen=True)
class Questions:
    """Items to ask about, with their picture's and their title's vector, shape (n, dim), in the release's space."""

    item_ids: Sequence[str]
    picture_vectors: Vectors
    title_vectors: Vectors

    def drawn(self, size: int, seed: int) -> "Questions":
        """At most `size` of them."""
        kept = lowest(keys_of(pa.array(self.item_ids, pa.string())), size, seed)
        return Questions([self.item_ids[at] for at in kept], self.picture_vectors[kept], self.title_vectors[kept])


@dataclass(frozen=True)
class Filters:
    """Filters to measure recall under; `rows`: which rows of the index pass one, as the server finds them."""

    cases: Sequence[FilterCase]
    rows: Callable[[Filter], RowSet | None]


@dataclass(frozen=True)
class FilteredRecall:
    """Recall under one filter, by query kind. `allowed`: items that pass it, of the `items` there should be.

    `short`: questions with fewer answers than there were to give; `outside`: answers that do not pass the filter.
    """

    share: float
    filter: str
    random: bool
    allowed: int
    items: int
    recall: Mapping[str, Interval]
    short: int
    outside: int


@dataclass(frozen=True)
class Measures:
    """Figures of a candidate. `differences` and `overlap` are against live, None where there is no live release.

    `recall` by query kind (picture, title); `filtered`: the same under each filter; `labels` and `differences` by
    metric. `labelled`: items of the catalogue that can be asked about; when there are some and nothing was asked, the
    label figures are NaN.
    """

    items: int
    missing: int
    foreign: int
    duplicates: int
    lowest_stored_cosine: float
    recall: Mapping[str, Interval]
    filtered: Sequence[FilteredRecall]
    labels: Mapping[str, Interval]
    labelled: int
    live_items: int | None = None
    differences: Mapping[str, Interval] | None = None
    overlap: float | None = None


def measure_candidate(
    index: SealedIndex,
    reference: Reference,
    recall_questions: Questions,
    label_questions: Questions,
    labels: Labels,
    *,
    seed: int,
    filters: Filters | None = None,
    live: SealedIndex | None = None,
    live_questions: Questions | None = None,
) -> Measures:
    """Measure a candidate against the tables, and against live on the same questions.

    `recall_questions` may be any items of the reference; `label_questions` are items whose group has another item.
    `live_questions` are the same items as `label_questions` in live's own space (the same vectors when the space is
    the same).
    """
    cases = filters.cases if filters is not None else ()
    asked = _asked(reference, recall_questions)
    for case in cases:
        rows = None if filters is None or case.asked is None else filters.rows(case.asked)
        few = recall_questions.drawn(FILTER_QUESTIONS, seed)
        asked += [replace(each, allowed=case.allowed, rows=rows) for each in _asked(reference, few)]
    answered, held, lowest_stored = compare(index, reference, asked, K, seed)
    figures = [_by_kind(answered[at : at + 2], seed) for at in range(0, len(answered), 2)]
    groups = labels.groups[labels.places(label_questions.item_ids)]
    ours = _answers(index, label_questions, labels)
    flat = _by_metric(ours)
    measured = Measures(
        items=held.items,
        missing=held.missing,
        foreign=held.foreign,
        duplicates=held.duplicates,
        lowest_stored_cosine=lowest_stored,
        recall=figures[0],
        filtered=[
            _filtered(case, reference, recall, answered[2 * at : 2 * at + 2])
            for at, (case, recall) in enumerate(zip(cases, figures[1:], strict=True), start=1)
        ],
        labels={name: mean_interval(values, groups, seed=seed) for name, values in flat.items()},
        labelled=labels.labelled().count,
    )
    if live is None or live_questions is None:
        return measured
    theirs = _answers(live, live_questions, labels)
    return replace(
        measured,
        live_items=live.columns.num_rows,
        differences={
            name: paired_difference(values, _by_metric(theirs)[name], groups, seed=seed)
            for name, values in flat.items()
        },
        overlap=overlap(ours["picture"].found + ours["title"].found, theirs["picture"].found + theirs["title"].found),
    )


def _asked(reference: Reference, questions: Questions) -> list[Asked]:
    """By picture, then by title: a title's own item is a right answer."""
    itself = reference.places(questions.item_ids)
    return [
        Asked(questions.picture_vectors, itself),
        Asked(questions.title_vectors, np.full(len(itself), NO_PLACE)),
    ]


def _by_kind(answered: Sequence[Answered], seed: int) -> dict[str, Interval]:
    """Mean recall of the questions to which there is something to find."""
    values = [each.recall[each.wanted > 0] for each in answered]
    return {kind: mean_interval(shares, seed=seed) for kind, shares in zip(("picture", "title"), values, strict=True)}


def _filtered(
    case: FilterCase, reference: Reference, recall: Mapping[str, Interval], answered: Sequence[Answered]
) -> FilteredRecall:
    return FilteredRecall(
        share=case.share,
        filter=case.name,
        random=case.asked is None,
        allowed=case.allowed.count,
        items=reference.current.count,
        recall=recall,
        short=sum(each.short for each in answered),
        outside=sum(each.outside for each in answered),
    )


def _answers(index: SealedIndex, questions: Questions, labels: Labels) -> dict[str, LabelValues]:
    asked = list(questions.item_ids)
    by_picture = ask(index, questions.picture_vectors, K, asked)
    by_title = ask(index, questions.title_vectors, K, [None] * len(asked))
    return {
        "picture": label_values(asked, by_picture, labels, itself_counts=False, k=K),
        "title": label_values(asked, by_title, labels, itself_counts=True, k=K),
    }


def _by_metric(answers: Mapping[str, LabelValues]) -> dict[str, Values]:
    hits = {f"{kind} R@10": values.hit_at_10 for kind, values in answers.items()}
    return hits | {f"{kind} nDCG@10": values.ndcg_at_10 for kind, values in answers.items()}
