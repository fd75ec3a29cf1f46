"""Recall of an index against brute force over the vectors that the embeddings table holds at the pinned version.

The table, not the candidate, is the truth: an index that holds wrong vectors would agree with itself. The index is
asked first; then the vectors are read once, block by block, and each block is shown to all that compare.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lookalike.contracts.encoder import Vectors
from lookalike.contracts.item_keys import NO_PLACE, ItemKeys, Keys, keys_of
from lookalike.contracts.row_set import RowSet
from lookalike.contracts.sealed_index import SealedIndex
from lookalike.evaluation.metrics import NO_ROW, Mask, Rows, Values
from lookalike.evaluation.ranking import top_k

MAX_COMPARED = 200_000
TIE = 1e-6
"""Two float32 inner products closer than this are one score: equal pictures may answer in any order."""


@dataclass(frozen=True)
class Reference:
    """What an index should hold: those of `items` that are `current`, each with a unit vector.

    `blocks` begins anew at each call: places, shape (n,), and their vectors, shape (n, dim), in any order.
    """

    items: ItemKeys
    current: RowSet
    blocks: Callable[[], Iterator[tuple[Rows, Vectors]]]

    @classmethod
    def held(cls, item_ids: Sequence[str], vectors: Vectors, block: int = 8_192) -> "Reference":
        """Of vectors in memory."""
        keys = keys_of(pa.array(item_ids, pa.string()))
        items = ItemKeys(np.sort(keys))
        places = items.find(keys)

        def blocks() -> Iterator[tuple[Rows, Vectors]]:
            for start in range(0, len(vectors), block):
                yield places[start : start + block], vectors[start : start + block]

        return cls(items, RowSet.every(len(items)), blocks)

    def places(self, item_ids: Sequence[str]) -> Rows:
        """Place of each id, NO_PLACE where it is none of the items."""
        return self.items.find(keys_of(pa.array(item_ids, pa.string())))


@dataclass(frozen=True)
class Coverage:
    """Items of an index against its reference: how many it holds, lacks, holds too much and holds twice."""

    items: int
    missing: int
    foreign: int
    duplicates: int


@dataclass(frozen=True)
class Asked:
    """Questions, shape (n, dim). `itself`: the place that a question was made of, NO_PLACE: none; (n,).

    It is left out of both lists, or every question would have one easy hit. With a filter, `allowed` are the places
    that pass it; `rows` those rows of the index that its own filter lets pass, None: the rows of `allowed`.
    """

    queries: Vectors
    itself: Rows
    allowed: RowSet | None = None
    rows: RowSet | None = None


@dataclass(frozen=True)
class Answered:
    """`recall`: share of the exact top k that was found, (n,); `wanted`: how many these are, fewer where fewer exist.

    A question to which a filter leaves nothing has recall NaN. `short`: questions with fewer answers than there are
    items to give; `outside`: answers that are not allowed.
    """

    recall: Values
    wanted: Rows
    short: int
    outside: int


def compare(
    index: SealedIndex, reference: Reference, asked: Sequence[Asked], k: int, seed: int
) -> tuple[list[Answered], Coverage, float]:
    """Ask all questions and read the reference once: answers, coverage, and the lowest cosine of a stored vector.

    The search is the server's own. A found item counts when its score, recomputed from the reference, reaches the k-th
    exact score; without ties this is the share of common ids. NaN or infinity in queries or reference gives NaN, of the
    recall and of the cosine.
    """
    held = _held_keys(index)
    place_of_row = _in_blocks(held, lambda keys: _current(reference, reference.items.find(keys)))
    searched = [_Search(index, each, place_of_row, k) for each in asked]
    stored = _Stored(index, place_of_row, seed)
    watchers: list[_Stored | _Search] = [stored, *searched]
    finite = True
    for places, vectors in reference.blocks():
        finite = bool(np.isfinite(vectors).all())
        if not finite:
            break
        for watcher in watchers:
            watcher.see(places, vectors)
    answered = [each.answered(finite) for each in searched]
    return answered, _coverage(held, place_of_row, reference), stored.lowest if finite else float("nan")


def lowest_cosine(ours: Vectors, theirs: Vectors) -> float:
    """Smallest cosine between rows of two arrays of one shape (n, dim); NaN when one is not finite or none is given.

    Also for stored vectors against the same pictures encoded again: a stamp can lie, this cannot.
    """
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = np.einsum("nd,nd->n", ours, theirs) / lengths
    return float(cosines.min()) if len(cosines) else float("nan")


class Nearest:
    """The best k of all scores that it is shown, per query: `scores` and `places`, shape (n, k), best first."""

    def __init__(self, queries: int, k: int) -> None:
        self.k = k
        self.scores = np.full((queries, k), -np.inf, dtype=np.float32)
        self.places = np.full((queries, k), NO_PLACE, dtype=np.int64)

    def see(self, scores: Vectors, places: Rows) -> None:
        """`scores`, shape (n, m), of the items at `places`, shape (m,)."""
        better = np.flatnonzero((scores > self.scores[:, -1:]).any(axis=0))
        if not len(better):  # after the first millions of a large table this is most often so
            return
        numbers = np.broadcast_to(places[better], (len(scores), len(better)))
        scores = np.concatenate([self.scores, scores[:, better]], axis=1)
        best = top_k(scores, self.k)
        self.scores = np.take_along_axis(scores, best, axis=1)
        self.places = np.take_along_axis(np.concatenate([self.places, numbers], axis=1), best, axis=1)


class _Search:
    """The answers to one kind of question, and what the blocks show that they should have been."""

    def __init__(self, index: SealedIndex, asked: Asked, place_of_row: Rows, k: int) -> None:
        self._asked, self._k = asked, k
        passing = asked.rows
        if passing is None and asked.allowed is not None:
            passing = RowSet.of(among(asked.allowed, place_of_row))
        rows = index.planned_search(asked.queries, k + 1, passing)[1]
        self._found: Rows = np.full(rows.shape, NO_PLACE, dtype=np.int64)
        self._found[rows != NO_ROW] = place_of_row[rows[rows != NO_ROW]]
        right = self._found != NO_PLACE if asked.allowed is None else among(asked.allowed, self._found)
        self._outside = int(((rows != NO_ROW) & ~right).sum())
        self._order = np.argsort(self._found, axis=None, kind="stable")
        self._sorted = self._found.ravel()[self._order]
        self._scores = np.full(self._found.size, -np.inf, dtype=np.float32)
        self._nearest = Nearest(len(asked.queries), k + 1)

    def see(self, places: Rows, vectors: Vectors) -> None:
        if self._asked.allowed is not None:
            passed = np.flatnonzero(self._asked.allowed.has(places))
            places, vectors = places[passed], vectors[passed]
        if len(places):
            scores = self._asked.queries @ vectors.T
            self._nearest.see(scores, places)
            self._note_found(scores, places)

    def _note_found(self, scores: Vectors, places: Rows) -> None:
        """Keep the scores of what the index found, as the reference gives them."""
        first, last = (np.searchsorted(self._sorted, places, side) for side in ("left", "right"))
        counts = last - first
        columns = np.repeat(np.arange(len(places)), counts)
        steps = np.arange(len(columns)) - np.repeat(np.cumsum(counts) - counts, counts)
        at = self._order[np.repeat(first, counts) + steps]
        self._scores[at] = scores[at // self._found.shape[1], columns]

    def answered(self, finite: bool) -> Answered:
        """After the last block; `finite`: whether all vectors were."""
        asked, k = self._asked, self._k
        finite = finite and bool(np.isfinite(asked.queries).all())
        shares, short = np.full(len(asked.queries), np.nan), 0
        there = np.zeros(len(asked.queries), dtype=np.int64)
        found_scores = self._scores.reshape(self._found.shape)
        for i, own in enumerate(asked.itself.tolist()):
            near = self._nearest.places[i]
            wanted = self._nearest.scores[i][(near != own) & (near != NO_PLACE)][:k]
            there[i] = len(wanted)
            answers = dict(zip(self._found[i].tolist(), found_scores[i].tolist(), strict=True))
            kept = [score for place, score in answers.items() if place not in {NO_PLACE, own}][:k]
            short += len(kept) < len(wanted)
            if len(wanted) and finite:
                shares[i] = min(sum(score >= wanted[-1] - TIE for score in kept), len(wanted)) / len(wanted)
        return Answered(shares, there, short, self._outside)


class _Stored:
    """Smallest cosine between a vector as the index holds it and as the table does; NaN when one is not finite.

    All common items up to MAX_COMPARED, a seeded sample of them beyond. Quantised codes stay above 0.98 or so; a
    vector of another item or another space falls to any value.
    """

    def __init__(self, index: SealedIndex, place_of_row: Rows, seed: int) -> None:
        rows = np.flatnonzero(place_of_row != NO_PLACE)
        if len(rows) > MAX_COMPARED:
            rows = np.sort(np.random.default_rng(seed).choice(rows, MAX_COMPARED, replace=False))
        order = np.argsort(place_of_row[rows], kind="stable")
        self._index, self._rows, self._places = index, rows[order], place_of_row[rows[order]]
        self._lowest = np.inf

    @property
    def lowest(self) -> float:
        """NaN before any was compared."""
        return float("nan") if np.isinf(self._lowest) else self._lowest

    def see(self, places: Rows, vectors: Vectors) -> None:
        first, last = (np.searchsorted(self._places, places, side) for side in ("left", "right"))
        for turn in range(int((last - first).max(initial=0))):  # an item held twice is looked at twice
            at = np.flatnonzero(last - first > turn)
            cosine = lowest_cosine(self._index.vectors(self._rows[first[at] + turn]), vectors[at])
            self._lowest = float(np.minimum(self._lowest, cosine))


def among(allowed: RowSet, places: Rows) -> Mask:
    """Which places are allowed; NO_PLACE is not."""
    passed: Mask = places != NO_PLACE
    passed[passed] = allowed.has(places[passed])
    return passed


def _current(reference: Reference, places: Rows) -> Rows:
    """NO_PLACE for those that no index should hold."""
    return np.where(among(reference.current, places), places, NO_PLACE)


def _held_keys(index: SealedIndex) -> Keys:
    chunks: Iterable[pa.Array] = index.columns.column("item_id").chunks
    return np.concatenate([np.zeros(0, np.uint64), *map(keys_of, chunks)])


def _in_blocks(keys: Keys, find: Callable[[Keys], Rows], size: int = 2**20) -> Rows:
    found = np.empty(len(keys), np.int64)
    for start in range(0, len(keys), size):
        found[start : start + size] = find(keys[start : start + size])
    return found


def _coverage(held: Keys, place_of_row: Rows, reference: Reference) -> Coverage:
    """Count items of the index by their ids against the reference."""
    known = np.zeros(len(reference.items), dtype=bool)
    known[place_of_row[place_of_row != NO_PLACE]] = True
    distinct = len(np.unique(held))
    common = int(known.sum())
    return Coverage(len(held), reference.current.count - common, distinct - common, len(held) - distinct)
