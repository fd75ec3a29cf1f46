"""Facets: which values there are to filter by, how often each occurs, and the ranges of the numbers."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

COUNTED = {"brand": "brand", "category": "category_path", "licence": "licence", "tags": "tags"}
RANGES = ("price", "stock")
MOST_VALUES = 200
"""Most frequent values given per field; any other value can still be filtered by."""


def count_facets(columns: pa.Table, attribute_names: list[str]) -> dict[str, Any]:
    """Counts by value, most frequent first, and smallest and largest of each number (None without values)."""
    found: dict[str, Any] = {field: _counts(columns[name]) for field, name in COUNTED.items()}
    for field in RANGES:
        bounds = pc.min_max(columns[field]).as_py()
        found[field] = {"min": bounds["min"], "max": bounds["max"]}
    found["attributes"] = attribute_names
    return found


def _counts(values: pa.ChunkedArray) -> list[dict[str, Any]]:
    if pa.types.is_list(values.type):
        values = pc.list_flatten(values)
    counted = pc.value_counts(values.drop_null()).to_pylist()
    counted.sort(key=lambda each: (-each["counts"], each["values"]))
    return [{"value": each["values"], "count": each["counts"]} for each in counted[:MOST_VALUES]]
