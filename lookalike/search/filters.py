"""Filters: attribute conditions → a set of rows, from the sets of the artifact or by Arrow over its columns, and kept.

Conditions of one query are joined by AND, the values within `any_of` by OR. A row without a value passes `none_of`
only. Sets belong to one release: they live and die with its `FilterRows`.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookalike.contracts.attribute_sets import AttributeSets
from lookalike.contracts.errors import BadQuery
from lookalike.contracts.query import Filter
from lookalike.contracts.row_set import RowSet

Mask = NDArray[np.bool_]
Asked = Filter | tuple[Filter, ...]

STRINGS = {name: name for name in ("brand", "licence", "author", "currency", "group_id")}
LISTS = {"category": "category_path", "tags": "tags"}
NUMBERS = {"price": "price", "stock": "stock"}
ATTRIBUTE = "attributes."
NUMBER_PATTERN = r"^\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*$"
CACHE_BYTES = 256 * 2**20
KEPT_BYTES = 1_024
"""Of a kept filter besides its rows: with it, sets of few rows do not become too many either."""
ATTRIBUTES_NAMED = 30


@dataclass(frozen=True)
class Passed:
    """`mask`: which values pass one filter. `numeric`: False for a range over values of which none is a number."""

    mask: Mask
    numeric: bool = True


@dataclass(frozen=True)
class PassedRows:
    """`rows`: which rows of a release pass one filter; `numeric` as in Passed."""

    rows: RowSet
    numeric: bool


class FilterRows:
    """Sets of rows of one release. Thread-safe."""

    def __init__(self, columns: pa.Table, sets: AttributeSets | None = None) -> None:
        """`sets` of these columns; None in older artifacts: then columns are read for each filter."""
        self._columns, self._sets = columns, sets
        self._lock = threading.Lock()
        self._kept: OrderedDict[Asked, PassedRows] = OrderedDict()
        self._kept_bytes = 0
        self._attributes: list[str] | None = None

    def rows(self, filters: Iterable[Filter]) -> RowSet | None:
        """Rows that pass all filters; None when there are none. Raises BadQuery."""
        asked = tuple(filters)
        kept = self._recall(asked)
        if kept is not None:
            return kept.rows
        combined: RowSet | None = None
        for each in asked:
            one = self.passed(each)
            require_numbers(each, one.numeric)
            combined = one.rows if combined is None else combined & one.rows
        # The same object for the same filters: what an index knows of a set, it knows of this one.
        return (
            self._keep(asked, PassedRows(combined, True)).rows if len(asked) > 1 and combined is not None else combined
        )

    def passed(self, each: Filter, known: Callable[[str], bool] = lambda name: False) -> PassedRows:
        """Rows that pass one filter; kept. Raises BadQuery for a field that there is not.

        `known` says of an attribute that no row has whether it is one all the same.
        """
        kept = self._recall(each)
        if kept is not None:
            return kept
        name = each.field.removeprefix(ATTRIBUTE)
        is_attribute = each.field.startswith(ATTRIBUTE) and (name in self.attribute_names() or known(name))
        if each.field not in STRINGS | LISTS | NUMBERS and not is_attribute:
            raise BadQuery(self._unknown(each.field))
        return self._keep(each, self._evaluated(each) if self._sets is None else self._looked_up(each, self._sets))

    def _recall(self, asked: Asked) -> PassedRows | None:
        with self._lock:
            if asked in self._kept:
                self._kept.move_to_end(asked)
            return self._kept.get(asked)

    def _keep(self, asked: Asked, passed: PassedRows) -> PassedRows:
        """What is kept from now on: of two threads that came to the same, the first one's."""
        with self._lock:
            if asked in self._kept:
                return self._kept[asked]
            self._kept[asked] = passed
            self._kept_bytes += KEPT_BYTES + passed.rows.data.nbytes
            while len(self._kept) > 1 and self._kept_bytes > CACHE_BYTES:
                self._kept_bytes -= KEPT_BYTES + self._kept.popitem(last=False)[1].rows.data.nbytes
        return passed

    def attribute_names(self) -> list[str]:
        """Names that occur in `attributes`, sorted."""
        if self._sets is not None:
            return list(self._sets.attributes)
        if self._attributes is None:
            names: set[str] = set()
            for chunk in self._columns["attributes"].chunks:
                names.update(pc.unique(chunk.keys).to_pylist())
            self._attributes = sorted(names)
        return self._attributes

    def _evaluated(self, each: Filter) -> PassedRows:
        """Over all rows."""
        found = evaluate(each, self._columns[column_of(each)].chunks)
        return PassedRows(RowSet.of(found.mask), found.numeric)

    def _looked_up(self, each: Filter, sets: AttributeSets) -> PassedRows:
        """The same from the sets that the artifact holds."""
        _require_numbers_for_range(each)
        rows: list[RowSet] = []
        if each.any_of is not None:
            rows.append(sets.having(each.field, _values(each.any_of, each.field)))
        if each.none_of is not None:
            rows.append(~sets.having(each.field, _values(each.none_of, each.field)))
        if _is_range(each):
            low = -math.inf if each.at_least is None else each.at_least
            high = math.inf if each.at_most is None else each.at_most
            rows.append(sets.between(each.field, low, high))
        numeric = not each.field.startswith(ATTRIBUTE) or not _is_range(each) or sets.has_numbers(each.field)
        return PassedRows(reduce(and_, rows), numeric)

    def _unknown(self, field: str) -> str:
        names = self.attribute_names()
        shown = ", ".join(ATTRIBUTE + name for name in names[:ATTRIBUTES_NAMED])
        more = f" and {len(names) - ATTRIBUTES_NAMED} more attributes" if len(names) > ATTRIBUTES_NAMED else ""
        known = ", ".join([*STRINGS, *LISTS, *NUMBERS] + ([shown] if shown else []))
        return f"filter on {field!r}: there is no such field. Allowed: {known}{more}"


def column_of(each: Filter) -> str:
    """Name of the item column that the filter looks at."""
    return (STRINGS | LISTS | NUMBERS).get(each.field, "attributes")


def evaluate(each: Filter, chunks: Sequence[pa.Array]) -> Passed:
    """Which values of the filter's column pass it. Raises BadQuery when the filter does not suit the column."""
    _require_numbers_for_range(each)
    if each.field in NUMBERS:
        return Passed(_joined(_by_number(chunk, each) for chunk in chunks))
    if each.field in STRINGS or each.field in LISTS:
        test = _by_element if each.field in LISTS else _by_string
        return Passed(_joined(test(chunk, each) for chunk in chunks))
    texts = [pc.map_lookup(chunk, each.field.removeprefix(ATTRIBUTE), "first") for chunk in chunks]
    passed = Passed(_joined(_by_string(chunk, each) for chunk in texts))
    if _is_range(each):
        numbers = [parsed_numbers(chunk) for chunk in texts]
        mask = passed.mask & _joined(_in_range(chunk, each) for chunk in numbers)
        return Passed(mask, any(chunk.null_count < len(chunk) for chunk in numbers))
    return passed


def _is_range(each: Filter) -> bool:
    return each.at_least is not None or each.at_most is not None


def _require_numbers_for_range(each: Filter) -> None:
    if _is_range(each) and (each.field in STRINGS or each.field in LISTS):
        raise BadQuery(
            f"filter on {each.field}: at_least and at_most need numbers, and {each.field} is text; use any_of "
            f"or none_of. Ranges are allowed on {', '.join(NUMBERS)} and attributes.NAME with numbers"
        )


def require_numbers(each: Filter, numeric: bool) -> None:
    """Raise BadQuery when a range is asked of an attribute that is never a number."""
    if not numeric:
        raise BadQuery(f"filter on {each.field}: none of its values is a number; use any_of or none_of")


def _by_string(chunk: pa.Array, each: Filter) -> pa.Array:
    """Value in any_of, and not in none_of."""
    passed = pa.array(np.ones(len(chunk), dtype=bool))
    if each.any_of is not None:
        passed = pc.and_(passed, pc.is_in(chunk, value_set=_texts(each.any_of)))
    if each.none_of is not None:
        passed = pc.and_(passed, pc.invert(pc.is_in(chunk, value_set=_texts(each.none_of))))
    return passed


def _by_element(chunk: pa.Array, each: Filter) -> pa.Array:
    """Any element in any_of, and none in none_of."""
    elements = pc.list_flatten(chunk)
    parents = np.asarray(pc.list_parent_indices(chunk))
    passed = np.ones(len(chunk), dtype=bool)
    for values, wanted in ((each.any_of, True), (each.none_of, False)):
        if values is not None:
            has = np.zeros(len(chunk), dtype=bool)
            has[parents[np.asarray(pc.is_in(elements, value_set=_texts(values)))]] = True
            passed &= has == wanted
    return pa.array(passed)


def _by_number(chunk: pa.Array, each: Filter) -> pa.Array:
    numbers = pc.add(pc.cast(chunk, pa.float64(), safe=False), 0.0)  # `is_in` takes -0.0 for another number than 0.0
    passed = pa.array(np.ones(len(chunk), dtype=bool))
    for values, wanted in ((each.any_of, True), (each.none_of, False)):
        if values is not None:
            found = pc.is_in(numbers, value_set=pa.array(_numbers(values, each.field), pa.float64()))
            passed = pc.and_(passed, found if wanted else pc.invert(found))
    if each.at_least is None and each.at_most is None:
        return passed
    return pc.and_(passed, _in_range(numbers, each))


def _in_range(numbers: pa.Array, each: Filter) -> pa.Array:
    passed = pc.is_valid(numbers)
    if each.at_least is not None:
        passed = pc.and_(passed, pc.greater_equal(numbers, each.at_least))
    if each.at_most is not None:
        passed = pc.and_(passed, pc.less_equal(numbers, each.at_most))
    return pc.fill_null(passed, False)


def parsed_numbers(texts: pa.Array) -> pa.Array:
    """Numbers (float64) where the text is one, null elsewhere."""
    numeric = pc.fill_null(pc.match_substring_regex(texts, NUMBER_PATTERN), False)
    return pc.cast(pc.utf8_trim_whitespace(pc.if_else(numeric, texts, None)), pa.float64())


def _texts(values: Sequence[str]) -> pa.Array:
    return pa.array(values, pa.string())


def _values(values: Sequence[str], field: str) -> Sequence[str] | Sequence[float]:
    """As the field's sets know them."""
    return _numbers(values, field) if field in NUMBERS else values


def _numbers(values: Sequence[str], field: str) -> Sequence[float]:
    try:
        return [float(value) + 0.0 for value in values]
    except ValueError as error:
        raise BadQuery(f"filter on {field}: any_of and none_of take numbers here; got {', '.join(values)}") from error


def _joined(chunks: Iterable[pa.Array]) -> Mask:
    parts = [np.asarray(chunk, dtype=bool) for chunk in chunks]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=bool)
