"""Label metrics of a release: does it return the same product, by picture and by title? Kept per query.

The same questions are asked of two releases, so that their difference is paired. Labels come from the silver table,
not from either release. The relevant items of a question are all others of its group, in whichever brand.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lookalike.contracts.encoder import Vectors
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.sealed_index import SealedIndex
from lookalike.evaluation.metrics import NO_ROW, Values, hit_at_k, ndcg_at_k
from lookalike.evaluation.relevance import EXACT, OTHER, RELATED, last_category

LABEL_COLUMNS = ("item_id", "group_id", "category_path", "title")
Found = list[list[str]]
"""Item ids of the results, best first, per query."""


@dataclass(frozen=True)
class Labels:
    """Group, narrowest category and title by item id."""

    groups: dict[str, str | None]
    categories: dict[str, str | None]
    titles: dict[str, str]

    @classmethod
    def from_silver(cls, rows: pa.Table) -> "Labels":
        """From live silver rows that hold at least LABEL_COLUMNS."""
        lacking = [name for name in LABEL_COLUMNS if name not in rows.column_names]
        if lacking:
            raise LookalikeError(f"labels need the silver columns {', '.join(LABEL_COLUMNS)}; missing: {lacking}")
        ids, groups, paths, titles = (rows.column(name).to_pylist() for name in LABEL_COLUMNS)
        categories = [last_category(path) for path in paths]
        return cls(
            dict(zip(ids, groups, strict=True)),
            dict(zip(ids, categories, strict=True)),
            dict(zip(ids, titles, strict=True)),
        )

    def grade(self, asked: str, found: str) -> int:
        """2 the same group, 1 the same narrowest category, 0 otherwise or unknown."""
        group, category = self.groups.get(asked), self.categories.get(asked)
        if group is not None and self.groups.get(found) == group:
            return EXACT
        return RELATED if category is not None and self.categories.get(found) == category else OTHER


@dataclass(frozen=True)
class LabelValues:
    """Values per question, shape (n,), and what was found."""

    hit_at_10: Values
    ndcg_at_10: Values
    found: Found


def labelled_items(labels: Labels, among: Sequence[str] | None = None) -> list[str]:
    """Sorted ids of the items whose group has another item: those of which an answer can be right or wrong."""
    members = Counter(group for group in labels.groups.values() if group is not None)
    pool = sorted(labels.groups if among is None else set(among) & labels.groups.keys())
    return [item for item in pool if (group := labels.groups[item]) is not None and members[group] > 1]


def draw_questions(labels: Labels, size: int, seed: int, among: Sequence[str] | None = None) -> list[str]:
    """At most `size` labelled items, drawn by seed; `among` limits them to items that have vectors.

    The same seed and labels give the same questions, so that a verdict can be repeated.
    """
    return draw_items(labelled_items(labels, among), size, seed)


def draw_items(item_ids: Sequence[str], size: int, seed: int) -> list[str]:
    """At most `size` of the ids, drawn by seed whatever their order: questions for recall, which needs no labels."""
    pool = sorted(item_ids)
    if len(pool) <= size:
        return pool
    return [pool[i] for i in np.sort(np.random.default_rng(seed).choice(len(pool), size, replace=False))]


def ask(index: SealedIndex, queries: Vectors, k: int, without: Sequence[str | None]) -> Found:
    """Item ids of the best k per query, shape (n, dim), leaving out `without[i]` from answer i."""
    _, rows = index.search(queries, k + 1)
    ids = index.columns.column("item_id").to_pylist()
    answers = [[ids[row] for row in line if row != NO_ROW] for line in rows.tolist()]
    return [[item for item in line if item != own][:k] for line, own in zip(answers, without, strict=True)]


def label_values(asked: Sequence[str], found: Found, labels: Labels, itself_counts: bool, k: int = 10) -> LabelValues:
    """Grade answers. `itself_counts`: for a title the item itself is a right answer, for its own picture it is not."""
    own = 1 if itself_counts else 0
    groups, categories = Counter(labels.groups.values()), Counter(labels.categories.values())
    both = Counter((labels.groups[item], labels.categories[item]) for item in labels.groups)
    grades = np.zeros((len(asked), k), dtype=np.int64)
    exact, related = np.zeros(len(asked), dtype=np.int64), np.zeros(len(asked), dtype=np.int64)
    for i, (item, answer) in enumerate(zip(asked, found, strict=True)):
        group, category = labels.groups[item], labels.categories[item]
        grades[i, : len(answer[:k])] = [labels.grade(item, other) for other in answer[:k]]
        exact[i] = groups[group] - 1 + own
        related[i] = categories[category] - both[group, category] if category is not None else 0
    return LabelValues(hit_at_k(grades == EXACT, k), ndcg_at_k(grades, exact, related, k), found)


def overlap(ours: Found, theirs: Found, k: int = 10) -> float:
    """Mean share of the first k answers that two releases have in common; 1 minus this is the churn."""
    if not ours:
        return float("nan")
    shares = [
        len(set(a[:k]) & set(b[:k])) / max(1, min(k, max(len(a), len(b)))) for a, b in zip(ours, theirs, strict=True)
    ]
    return float(np.mean(shares))
