"""Filters: attribute conditions → one boolean per row, computed by Arrow and kept per filter.

Conditions of one query are joined by AND, the values within `any_of` by OR. A row without a value passes `none_of`
only. Masks belong to one release: they live and die with its `FilterMasks`.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookalike.contracts.errors import BadQuery
from lookalike.contracts.query import Filter

Mask = NDArray[np.bool_]

STRINGS = {name: name for name in ("brand", "licence", "author", "currency", "group_id")}
LISTS = {"category": "category_path", "tags": "tags"}
NUMBERS = {"price": "price", "stock": "stock"}
ATTRIBUTE = "attributes."
NUMBER_PATTERN = r"^\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*$"
CACHE_BYTES = 256 * 2**20
ATTRIBUTES_NAMED = 30


@dataclass(frozen=True)
class Passed:
    """`mask`: which rows pass one filter. `numeric`: False for a range over values of which none is a number."""

    mask: Mask
    numeric: bool = True


class FilterMasks:
    """Masks over the columns of one release. Thread-safe."""

    def __init__(self, columns: pa.Table) -> None:
        self._columns = columns
        self._lock = threading.Lock()
        self._kept: OrderedDict[Filter, Passed] = OrderedDict()
        self._attributes: list[str] | None = None

    def mask(self, filters: Iterable[Filter]) -> Mask | None:
        """Rows that pass all filters, shape (items,); None when there are none. Raises BadQuery.

        The mask may be shared: it is read-only.
        """
        combined: Mask | None = None
        for each in filters:
            one = self.passed(each)
            require_numbers(each, one.numeric)
            combined = one.mask if combined is None else combined & one.mask
        return combined

    def passed(self, each: Filter, known: Callable[[str], bool] = lambda name: False) -> Passed:
        """Rows that pass one filter; kept, read-only. Raises BadQuery for a field that there is not.

        `known` says of an attribute that no row has whether it is one all the same.
        """
        with self._lock:
            if each in self._kept:
                self._kept.move_to_end(each)
                return self._kept[each]
        name = each.field.removeprefix(ATTRIBUTE)
        is_attribute = each.field.startswith(ATTRIBUTE) and (name in self.attribute_names() or known(name))
        if each.field not in STRINGS | LISTS | NUMBERS and not is_attribute:
            raise BadQuery(self._unknown(each.field))
        passed = evaluate(each, self._columns[column_of(each)].chunks)
        passed.mask.flags.writeable = False
        with self._lock:
            self._kept[each] = passed
            while len(self._kept) > 1 and len(self._kept) * passed.mask.nbytes > CACHE_BYTES:
                self._kept.popitem(last=False)
        return passed

    def attribute_names(self) -> list[str]:
        """Names that occur in `attributes`, sorted."""
        if self._attributes is None:
            names: set[str] = set()
            for chunk in self._columns["attributes"].chunks:
                names.update(pc.unique(chunk.keys).to_pylist())
            self._attributes = sorted(names)
        return self._attributes

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
    by_range = each.at_least is not None or each.at_most is not None
    if each.field in NUMBERS:
        return Passed(_joined(_by_number(chunk, each) for chunk in chunks))
    if each.field in STRINGS or each.field in LISTS:
        if by_range:
            raise BadQuery(
                f"filter on {each.field}: at_least and at_most need numbers, and {each.field} is text; use any_of "
                f"or none_of. Ranges are allowed on {', '.join(NUMBERS)} and attributes.NAME with numbers"
            )
        test = _by_element if each.field in LISTS else _by_string
        return Passed(_joined(test(chunk, each) for chunk in chunks))
    texts = [pc.map_lookup(chunk, each.field.removeprefix(ATTRIBUTE), "first") for chunk in chunks]
    passed = Passed(_joined(_by_string(chunk, each) for chunk in texts))
    if by_range:
        numbers = [_parsed(chunk) for chunk in texts]
        mask = passed.mask & _joined(_in_range(chunk, each) for chunk in numbers)
        return Passed(mask, any(chunk.null_count < len(chunk) for chunk in numbers))
    return passed


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
    numbers = pc.cast(chunk, pa.float64(), safe=False)
    passed = pa.array(np.ones(len(chunk), dtype=bool))
    for values, wanted in ((each.any_of, True), (each.none_of, False)):
        if values is not None:
            found = pc.is_in(numbers, value_set=_numbers(values, each.field))
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


def _parsed(texts: pa.Array) -> pa.Array:
    """Numbers where the text is one, null elsewhere."""
    numeric = pc.fill_null(pc.match_substring_regex(texts, NUMBER_PATTERN), False)
    return pc.cast(pc.utf8_trim_whitespace(pc.if_else(numeric, texts, None)), pa.float64())


def _texts(values: Sequence[str]) -> pa.Array:
    return pa.array(values, pa.string())


def _numbers(values: Sequence[str], field: str) -> pa.Array:
    try:
        return pa.array([float(value) for value in values], pa.float64())
    except ValueError as error:
        raise BadQuery(f"filter on {field}: any_of and none_of take numbers here; got {', '.join(values)}") from error


def _joined(chunks: Iterable[pa.Array]) -> Mask:
    parts = [np.asarray(chunk, dtype=bool) for chunk in chunks]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=bool)
