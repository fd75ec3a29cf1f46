"""Brute force for `updates.py`: what a server must answer, by the sealed rows and all changes, compared one by one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from update_server import FILTERS, K, Served
from update_traffic import Known, pictures

from lookalike.contracts.encoder import Vectors
from lookalike.contracts.query import Filter, QueryPart, SearchAnswer, SearchQuery
from lookalike.contracts.sealed_index import SealedIndex

BLOCK = 50_000
TIE = 1e-5
NOWHERE = -np.inf


@dataclass(frozen=True)
class Asked:
    """A query whose answer is compared."""

    vector: Vectors
    filters: tuple[Filter, ...]


class Truth:
    """All items: places 0..n-1 are sealed rows, the others new items and those with a new picture."""

    def __init__(self, index: SealedIndex, known: Mapping[str, Known]) -> None:
        self._index, self._sealed = index, index.manifest.items
        columns = index.columns
        moved = [item for item, each in known.items() if each.between is not None]
        like = np.array([known[item].like for item in moved], np.int64)
        self.ids = columns["item_id"].to_pylist() + moved
        self._moved = {item: self._sealed + at for at, item in enumerate(moved)}
        self._values = {
            "price": np.append(_floats(columns["price"]), [known[item].price for item in moved]).astype(float),
            "stock": np.append(_floats(columns["stock"]), [known[item].stock for item in moved]).astype(float),
            "brand": np.append(brands := np.array(columns["brand"].to_pylist()), brands[like]),
        }
        self._there = np.append(np.ones(self._sealed, bool), np.array([not known[item].gone for item in moved], bool))
        new = {item for item in moved if item.startswith("new-")}
        for item in known.keys() - new:
            each = known[item]
            self._there[each.like] = not each.gone and each.between is None
            self._values["price"][each.like], self._values["stock"][each.like] = each.price, each.stock
        self._fresh = (
            pictures(index, np.array([known[item].between for item in moved], np.int64))
            if moved
            else np.empty((0, index.manifest.space.dim), np.float32)
        )

    def scores(self, asked: list[Asked]) -> NDArray[np.float32]:
        """Of every item for every query, shape (queries, items); -inf for what must not be found."""
        queries = np.stack([each.vector for each in asked])
        scores = np.empty((len(asked), len(self.ids)), np.float32)
        for start in range(0, self._sealed, BLOCK):
            rows = np.arange(start, min(start + BLOCK, self._sealed))
            scores[:, rows] = queries @ unit(self._index.vectors(rows)).T
        scores[:, self._sealed :] = queries @ self._fresh.T
        for own, each in zip(scores, asked, strict=True):
            own[~self._allowed(each.filters)] = NOWHERE
        return scores

    def compare(self, asked: list[Asked], answers: list[SearchAnswer], k: int) -> tuple[list[str], float]:
        """What is wrong with the answers, and their recall: the share of hits as near as the true k-th.

        Wrong is an item that is gone or does not pass, another score or column than the item's, and a changed picture
        that is missing although it is nearer than the true k-th.
        """
        problems: list[str] = []
        near = wanted = 0
        for own, answer in zip(self.scores(asked), answers, strict=True):
            last = np.partition(own, -k)[-k]
            best = own[own > NOWHERE] if last == NOWHERE else own[own >= last - TIE]
            wanted += min(k, len(best))
            places = {hit.item_id: self._place(hit.item_id) for hit in answer.hits}
            near += sum(own[place] >= last - TIE and own[place] > NOWHERE for place in places.values())
            problems += self._wrong(own, answer, places)
            fresh = self._sealed + np.flatnonzero(own[self._sealed :] > last + TIE)
            missing = {self.ids[place] for place in fresh.tolist()} - set(places)
            problems += [f"{item} has a new picture among the nearest and is not found" for item in sorted(missing)]
        return problems, near / max(wanted, 1)

    def _place(self, item: str) -> int:
        return self._moved[item] if item in self._moved else int(self._index.rows_of([item])[0])

    def _wrong(self, own: NDArray[np.float32], answer: SearchAnswer, places: Mapping[str, int]) -> Iterable[str]:
        for hit in answer.hits:
            place = places[hit.item_id]
            if own[place] == NOWHERE:
                yield f"{hit.item_id} is gone, has another picture or does not pass the filter, and is found"
            elif abs(own[place] - hit.score) > TIE:
                yield f"{hit.item_id} has the score {hit.score}, and truly {own[place]}"
            yield from _other_columns(hit.item_id, hit.product, {n: self._values[n][place] for n in ("price", "stock")})

    def _allowed(self, filters: Iterable[Filter]) -> NDArray[np.bool_]:
        allowed = self._there.copy()
        for each in filters:
            values = self._values[each.field]
            if each.any_of is not None:
                allowed &= np.isin(values, each.any_of)
            if each.at_least is not None:
                allowed &= values >= each.at_least
            if each.at_most is not None:
                allowed &= values <= each.at_most
        return allowed


def check(served: Served, known: Mapping[str, Known], count: int) -> tuple[list[str], float]:
    """What is wrong with `count` answers by brute force, and their recall: half of them near items that changed."""
    random, changed = np.random.default_rng(3), sorted(known)
    some = [known[changed[at]] for at in random.integers(len(changed), size=count // 2)] if changed else []
    # Where an item is now or, of one with its own picture or gone, where its sealed row was.
    near = np.array([each.between or (each.like, each.like) for each in some], np.int64).reshape(-1, 2)
    served.vectors["changed"] = pictures(served.index, near)
    names = [f"changed {at}" for at in range(len(some))]
    names += [f"{('pictures', 'texts')[at % 2]} {at // 2}" for at in range(count - len(some))]
    chosen = [((), *FILTERS)[at % (1 + len(FILTERS))] for at in range(len(names))]
    vectors = unit(served.encoder.encode_texts(names))
    asked = [Asked(vector, filters) for vector, filters in zip(vectors, chosen, strict=True)]
    answers = [
        served.engine.search(SearchQuery(parts=(QueryPart(text=name),), filters=filters, k=K))
        for name, filters in zip(names, chosen, strict=True)
    ]
    return Truth(served.index, known).compare(asked, answers, K)


def unit(vectors: Vectors) -> Vectors:
    """As the engine makes them."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def _other_columns(item: str, product: Mapping[str, Any], values: Mapping[str, float]) -> Iterable[str]:
    for name, value in values.items():
        if product[name] != value:
            yield f"{item} is shown with {name} {product[name]}, and truly has {value}"


def _floats(column: Any) -> NDArray[np.float64]:
    return np.asarray(pc.cast(column, "float64").to_numpy())
