"""Label metrics of a release: does it return the same product, by picture and by title? Kept per query.

The same questions are asked of two releases, so that their difference is paired. Labels come from the silver table,
not from either release. The relevant items of a question are all others of its group, in whichever brand.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lookalike.contracts.encoder import Vectors
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.item_keys import NO_KEY, NO_PLACE, ItemKeys, Keys, Rows, joined, keys_of, lowest
from lookalike.contracts.row_set import RowSet
from lookalike.contracts.sealed_index import SealedIndex
from lookalike.evaluation.metrics import NO_ROW, Grades, Values, hit_at_k, ndcg_at_k
from lookalike.evaluation.relevance import EXACT, OTHER, RELATED

LABEL_COLUMNS = ("item_id", "content_hash", "group_id", "category_path")
BLOCK = 2**20
Found = list[list[str]]
"""Item ids of the results, best first, per query."""


@dataclass(frozen=True)
class Labels:
    """Keys of each live item's picture, group and narrowest category, by its place; NO_KEY where it has none.

    32 bytes an item, whatever the texts.
    """

    items: ItemKeys
    pictures: Keys
    groups: Keys
    categories: Keys

    @classmethod
    def from_silver(cls, batches: Iterable[pa.RecordBatch]) -> "Labels":
        """From batches of live silver rows that hold at least LABEL_COLUMNS."""
        parts: list[tuple[Keys, ...]] = [(np.zeros(0, np.uint64),) * len(LABEL_COLUMNS)]
        for batch in batches:
            lacking = [name for name in LABEL_COLUMNS if name not in batch.schema.names]
            if lacking:
                raise LookalikeError(f"labels need the silver columns {', '.join(LABEL_COLUMNS)}; missing: {lacking}")
            ids, pictures, groups, paths = (batch.column(name) for name in LABEL_COLUMNS)
            parts.append((keys_of(ids), keys_of(pictures), keys_of(groups), keys_of(_last_categories(paths))))
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        del parts
        order = np.argsort(columns[0], kind="stable")
        items, pictures, groups, categories = (column[order] for column in columns)
        return cls(ItemKeys(items), pictures, groups, categories)

    def places(self, item_ids: Sequence[str]) -> Rows:
        """Place of each item, NO_PLACE where it is not live."""
        return self.items.find(keys_of(pa.array(item_ids, pa.string())))

    def labelled(self) -> RowSet:
        """Items whose group has another item: those of which an answer can be right or wrong."""
        groups = np.sort(self.groups)
        repeated = ItemKeys(np.unique(groups[1:][(groups[1:] == groups[:-1]) & (groups[1:] != NO_KEY)]))
        mask = np.zeros(len(self.groups), dtype=bool)
        for start in range(0, len(mask), BLOCK):
            mask[start : start + BLOCK] = repeated.find(self.groups[start : start + BLOCK]) != NO_PLACE
        return RowSet.of(mask)


@dataclass(frozen=True)
class LabelValues:
    """Values per question, shape (n,), and what was found."""

    hit_at_10: Values
    ndcg_at_10: Values
    found: Found


def draw_items(item_ids: Sequence[str], size: int, seed: int) -> list[str]:
    """At most `size` of the ids, sorted: the same for one seed, in whatever order they are given.

    They are those of lowest rank, so that a draw from the draws of several parts is the draw from the whole.
    """
    return sorted(item_ids[at] for at in lowest(keys_of(pa.array(item_ids, pa.string())), size, seed))


def ask(index: SealedIndex, queries: Vectors, k: int, without: Sequence[str | None]) -> Found:
    """Item ids of the best k per query, shape (n, dim), leaving out `without[i]` from answer i."""
    _, rows = index.search(queries, k + 1)
    ids = index.columns.column("item_id")
    answers = [[ids[row].as_py() for row in line if row != NO_ROW] for line in rows.tolist()]
    return [[item for item in line if item != own][:k] for line, own in zip(answers, without, strict=True)]


def label_values(asked: Sequence[str], found: Found, labels: Labels, itself_counts: bool, k: int = 10) -> LabelValues:
    """Grade answers. `itself_counts`: for a title the item itself is a right answer, for its own picture it is not."""
    own = 1 if itself_counts else 0
    places = labels.places(asked)
    groups, categories = labels.groups[places], labels.categories[places]
    members, related, both = _members(labels, groups, categories)
    exact = np.where(groups != NO_KEY, members - 1 + own, 0)
    near = np.where(categories != NO_KEY, related - both, 0)
    grades = graded(labels, groups, categories, found, k)
    return LabelValues(hit_at_k(grades == EXACT, k), ndcg_at_k(grades, exact, near, k), found)


def graded(labels: Labels, groups: Keys, categories: Keys, found: Found, k: int) -> Grades:
    """Grades of answers to questions of these groups and categories, shape (n, k).

    2 the same group, 1 the same narrowest category, 0 otherwise, unknown or no answer.
    """
    grades = np.full((len(found), k), OTHER, dtype=np.int64)
    for i, answer in enumerate(found):
        places = labels.places(answer[:k])
        known = places != NO_PLACE
        same_group = (labels.groups[places] == groups[i]) & known & (groups[i] != NO_KEY)
        same_category = (labels.categories[places] == categories[i]) & known & (categories[i] != NO_KEY)
        grades[i, : len(places)] = np.where(same_group, EXACT, np.where(same_category, RELATED, OTHER))
    return grades


def _members(labels: Labels, groups: Keys, categories: Keys) -> tuple[Rows, Rows, Rows]:
    """How many live items have each question's group, its category, and both."""
    wanted = (groups, categories, joined(groups, categories))
    known = [np.unique(keys) for keys in wanted]
    counts = [np.zeros(len(keys), np.int64) for keys in known]
    for start in range(0, len(labels.groups), BLOCK):
        group, category = (keys[start : start + BLOCK] for keys in (labels.groups, labels.categories))
        for at, given in enumerate((group, category, joined(group, category))):
            places = ItemKeys(known[at]).find(given)
            counts[at] += np.bincount(places[places != NO_PLACE], minlength=len(known[at]))
    found = [count[ItemKeys(keys).find(asked)] for keys, count, asked in zip(known, counts, wanted, strict=True)]
    return found[0], found[1], found[2]


def _last_categories(paths: pa.Array) -> pa.Array:
    """The narrowest category of each path, as `relevance.last_category` names it."""
    return pc.if_else(pc.greater(pc.list_value_length(paths), 0), pc.binary_join(paths, "/"), None)


def overlap(ours: Found, theirs: Found, k: int = 10) -> float:
    """Mean share of the first k answers that two releases have in common; 1 minus this is the churn."""
    if not ours:
        return float("nan")
    shares = [
        len(set(a[:k]) & set(b[:k])) / max(1, min(k, max(len(a), len(b)))) for a, b in zip(ours, theirs, strict=True)
    ]
    return float(np.mean(shares))
