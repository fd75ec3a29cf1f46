"""All that is measured on a candidate index, in one call: coverage, stored vectors, recall, labels, churn.

Nothing here judges; `lookalike.quality.gate` holds the figures against the bars.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lookalike.contracts.encoder import Vectors
from lookalike.contracts.sealed_index import SealedIndex
from lookalike.evaluation.bootstrap import Interval, mean_interval, paired_difference
from lookalike.evaluation.label import Labels, LabelValues, ask, label_values, labelled_items, overlap
from lookalike.evaluation.metrics import Values
from lookalike.evaluation.truth import Reference, coverage, lowest_stored_cosine, recall_per_query

K = 10


@dataclass(frozen=True)
class Questions:
    """Items to ask about, with their picture's and their title's vector, shape (n, dim), in the release's space."""

    item_ids: Sequence[str]
    picture_vectors: Vectors
    title_vectors: Vectors


@dataclass(frozen=True)
class Measures:
    """Figures of a candidate. `differences` and `overlap` are against live, None where there is no live release.

    `recall` by query kind (picture, title); `labels` and `differences` by metric. `labelled`: items of
    the catalogue that can be asked about; when there are some and nothing was asked, the label figures are NaN.
    """

    items: int
    missing: int
    foreign: int
    duplicates: int
    lowest_stored_cosine: float
    recall: Mapping[str, Interval]
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
    live: SealedIndex | None = None,
    live_questions: Questions | None = None,
) -> Measures:
    """Measure a candidate against the tables, and against live on the same questions.

    `recall_questions` may be any items of the reference; `label_questions` come from `label.draw_questions`.
    `live_questions` are the same items as `label_questions` in live's own space (the same vectors when the space is
    the same).
    """
    held = coverage(index, reference)
    groups = [str(labels.groups[item]) for item in label_questions.item_ids]
    ours = _answers(index, label_questions, labels)
    flat = _by_metric(ours)
    measured = Measures(
        items=held.items,
        missing=held.missing,
        foreign=held.foreign,
        duplicates=held.duplicates,
        lowest_stored_cosine=lowest_stored_cosine(index, reference, seed),
        recall=_recall(index, reference, recall_questions, seed),
        labels={name: mean_interval(values, groups, seed=seed) for name, values in flat.items()},
        labelled=len(labelled_items(labels)),
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


def _recall(index: SealedIndex, reference: Reference, questions: Questions, seed: int) -> dict[str, Interval]:
    itself = reference.rows_in(questions.item_ids)
    by_picture = recall_per_query(index, reference, questions.picture_vectors, K, itself)
    by_title = recall_per_query(index, reference, questions.title_vectors, K, np.full(len(itself), -1))
    return {
        "picture": mean_interval(by_picture, seed=seed),
        "title": mean_interval(by_title, seed=seed),
    }


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
