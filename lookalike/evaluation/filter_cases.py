"""Filters that recall is measured under: of each share some random rows, and an attribute whose share is near it.

Random rows lie everywhere; items that share an attribute lie together, and most lists or neighbours of a query may hold
none of them. Both are hard for an index in their own way.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lookalike.contracts.item_keys import ItemKeys, keys_of, ranks
from lookalike.contracts.query import Filter
from lookalike.contracts.row_set import RowSet
from lookalike.evaluation.metrics import Values
from lookalike.evaluation.truth import among
from lookalike.search.filters import column_of, evaluate

FIELDS = {"brand": "brand", "category": "category_path", "tags": "tags", "licence": "licence"}
PRICE = "price"
FILTER_COLUMNS = ("item_id", *FIELDS.values(), PRICE)
NEAR = 2.0
"""A value that is so many times as frequent as the share, or as rare, is near it; else a range of prices stands in."""
LOOKED_AT = 1_000_000
"""Items among which values are counted, a sample of a larger catalogue: ten of them have the smallest share's value."""


@dataclass(frozen=True)
class FilterCase:
    """Items that a filter lets pass, by their places. `asked`: the filter as a user asks it; None: random rows."""

    share: float
    name: str
    allowed: RowSet
    asked: Filter | None = None


def random_cases(items: ItemKeys, current: RowSet, shares: Iterable[float], seed: int) -> Iterator[FilterCase]:
    """For each share that has a row, so many of the current items as it says, the same ones for one seed."""
    mask = current.has(np.arange(len(items)))
    # Another order than that of the questions, or each question's own item would be in every filter.
    order = np.where(mask, ranks(ranks(items.keys, seed), seed), np.uint64(2**64 - 1))
    for share in _with_a_row(shares, current.count):
        limit = np.partition(order, (wanted := round(share * current.count)) - 1)[wanted - 1]
        yield FilterCase(share, "random rows", RowSet.of(mask & (order <= limit)))


def choose_filters(
    batches: Iterable[pa.RecordBatch], items: int, shares: Iterable[float], seed: int
) -> dict[float, Filter]:
    """For each share a filter on a value of brand, category, tags or licence that is near it, or on the price.

    `batches` hold FILTER_COLUMNS of the live items, `items` in all. A share that nothing comes near has none.
    """
    counts: Counter[tuple[str, str]] = Counter()
    prices, seen, limit = [np.zeros(0)], 0, np.uint64(min(1.0, LOOKED_AT / max(items, 1)) * (2**64 - 2**11))
    for batch in batches:
        chosen = batch.filter(pa.array(ranks(keys_of(batch.column("item_id")), seed) <= limit))
        seen += chosen.num_rows
        for field, name in FIELDS.items():
            counts.update({(field, value): count for value, count in _value_counts(chosen.column(name))})
        prices.append(chosen.column(PRICE).drop_null().to_numpy(zero_copy_only=False))
    ordered = np.sort(np.concatenate(prices))
    found = {share: _nearest(share, counts, ordered, seen) for share in _with_a_row(shares, items)}
    return {share: chosen for share, chosen in found.items() if chosen is not None}


def attribute_cases(
    filters: dict[float, Filter], batches: Iterable[pa.RecordBatch], items: ItemKeys, current: RowSet
) -> list[FilterCase]:
    """What each filter lets pass of the current items, told from the tables and not from the index."""
    masks = {share: np.zeros(len(items), dtype=bool) for share in filters}
    for batch in batches:
        places = items.find(keys_of(batch.column("item_id")))
        held = among(current, places)
        for share, each in filters.items():
            masks[share][places[evaluate(each, [batch.column(column_of(each))]).mask & held]] = True
    cases = [FilterCase(share, named(each), RowSet.of(masks[share]), each) for share, each in filters.items()]
    return [case for case in cases if case.allowed.count]


def named(asked: Filter) -> str:
    """A filter as people read it."""
    if asked.any_of is not None:
        return f"{asked.field} {' or '.join(asked.any_of)}"
    return f"{asked.field} up to {asked.at_most:g}"


def _with_a_row(shares: Iterable[float], items: int) -> list[float]:
    """Those of which a catalogue of so many items has a row."""
    return [share for share in shares if share * items >= 1]


def _nearest(share: float, counts: Counter[tuple[str, str]], prices: Values, items: int) -> Filter | None:
    def distance(entry: tuple[tuple[str, str], int]) -> tuple[float, tuple[str, str]]:
        return abs(math.log(entry[1] / (share * items))), entry[0]

    nearest = min(counts.items(), key=distance, default=None)
    if nearest is not None and distance(nearest)[0] <= math.log(NEAR):
        (field, value), _ = nearest
        return Filter(field=field, any_of=(value,))
    wanted = round(share * items)
    if 0 < wanted <= len(prices):
        within = int(np.searchsorted(prices, prices[wanted - 1], side="right"))
        if within <= NEAR * wanted:
            return Filter(field=PRICE, at_most=float(prices[wanted - 1]))
    return None


def _value_counts(column: pa.Array) -> Sequence[tuple[str, int]]:
    if pa.types.is_list(column.type):
        column = pc.list_flatten(column)
    counted = pc.value_counts(column.drop_null())
    return list(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))
