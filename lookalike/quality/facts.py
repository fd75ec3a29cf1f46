"""Scalar facts about rows, computed with Arrow and NumPy, for the suites to judge.

Whole vectors never go to a suite: a failed expectation would store them all. NaN never goes there as a number either:
the suites take it for a missing value and skip it, so that what must be finite becomes a true-or-false column.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookalike.contracts.item_keys import NO_PLACE, ItemKeys, Keys, keys_of
from lookalike.contracts.tables import TableContract

NORM_TOLERANCE = 1e-3
MISSING = "missing"


SILVER_SCALARS = (
    "item_id", "version", "title", "content_hash", "width", "height", "stock", "source", "image_path", "price",
    "licence", "deleted",
)  # fmt: skip
EMBEDDING_COLUMNS = ("item_id", "space", "content_hash", "encoder_version", "vector", "l2_norm")


def schema_facts(schema: pa.Schema, contract: TableContract) -> pa.Table:
    """One row per contract column: its name, the type it should have and the type found (or `missing`)."""
    found = {field.name: _kind(field.type) for field in schema}
    names = contract.schema.names
    return pa.table(
        {
            "column": pa.array(names, pa.string()),
            "expected": pa.array([_kind(contract.schema.field(name).type) for name in names], pa.string()),
            "found": pa.array([found.get(name, MISSING) for name in names], pa.string()),
        }
    )


def live_rows(silver: pa.Table) -> pa.Table:
    """Rows of silver that are not deleted."""
    if "deleted" not in silver.column_names:
        return silver
    return silver.filter(pc.invert(pc.fill_null(silver.column("deleted"), False)))


def silver_facts(silver: pa.Table, repeated: Keys, licensing: pa.Array) -> pa.Table:
    """Scalar columns of the live rows. `price_fits`: absent, or finite and from 0.

    `given_twice`: the item_id where its key is among the `repeated` ones, ascending. `licence_fits`: a source among
    the `licensing` ones states a licence.
    """
    rows = live_rows(silver)
    plain = ("item_id", "version", "title", "content_hash", "width", "height", "stock", "source", "image_path")
    facts = {name: _column(rows, name) for name in plain}
    facts["given_twice"] = _where_repeated(texts_of(rows, "item_id"), repeated)
    price = pc.cast(_column(rows, "price"), pa.float64())
    facts["price_fits"] = pc.fill_null(pc.and_(pc.is_finite(price), pc.greater_equal(price, 0.0)), True)
    given = pc.is_valid(_column(rows, "licence"))
    facts["licence_fits"] = pc.or_(given, pc.invert(pc.is_in(texts_of(rows, "source"), value_set=licensing)))
    return pa.table(facts)


def embedding_facts(embeddings: pa.Table, dim: int, repeated: Keys) -> pa.Table:
    """One row per embedding: keys, `components`, `dim_fits`, `finite`, the `norm` computed from the vector itself.

    `norm_told_truly`: the stored l2_norm is the computed one. `norm` is null where the vector is not finite.
    `given_twice`: item and space where their key is among the `repeated` ones, ascending.
    """
    lengths, norms = vector_lengths_and_norms(embeddings.column("vector"))
    stored = np.asarray(pc.fill_null(_column(embeddings, "l2_norm"), np.nan), dtype=np.float64)
    finite = np.isfinite(norms)
    told = np.abs(np.where(finite, norms, 0.0) - stored) <= NORM_TOLERANCE
    return pa.table(
        {
            "item_id": _column(embeddings, "item_id"),
            "space": _column(embeddings, "space"),
            "content_hash": _column(embeddings, "content_hash"),
            "encoder_version": _column(embeddings, "encoder_version"),
            "given_twice": _where_repeated(vector_names(embeddings), repeated),
            "components": pa.array(lengths),
            "dim_fits": pa.array(lengths == dim),
            "finite": pa.array(finite),
            "norm": pa.array(np.where(finite, norms, 0.0), mask=~finite),
            "norm_told_truly": pa.array(told & finite),
        }
    )


def texts_of(table: pa.Table, name: str) -> pa.Array:
    """A column of texts; nulls where the table lacks it."""
    return pc.cast(_column(table, name), pa.string())


def vector_names(embeddings: pa.Table) -> pa.Array:
    """Item and space of each vector as one text; null where one of them is."""
    return pc.binary_join_element_wise(texts_of(embeddings, "item_id"), texts_of(embeddings, "space"), " in space ")


def vector_lengths_and_norms(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Number of components and L2 norm (float64; NaN where a component is not finite or missing) of each list."""
    lengths, norms = [np.zeros(0, np.int64)], [np.zeros(0)]
    for chunk in column.chunks:
        sizes = np.asarray(pc.fill_null(pc.list_value_length(chunk), 0), dtype=np.int64)
        flat = np.asarray(pc.fill_null(pc.list_flatten(chunk), np.nan), dtype=np.float64)
        owner = np.repeat(np.arange(len(sizes)), sizes)
        squares = np.bincount(owner, weights=np.where(np.isfinite(flat), flat, 0.0) ** 2, minlength=len(sizes))
        broken = np.bincount(owner, weights=~np.isfinite(flat), minlength=len(sizes)) > 0
        lengths.append(sizes)
        norms.append(np.where(broken | (sizes == 0), np.nan, np.sqrt(squares)))
    return np.concatenate(lengths), np.concatenate(norms)


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    """A column, or nulls where the table lacks it: the schema suite reports that, nothing crashes."""
    if name in table.column_names:
        return table.column(name).combine_chunks()
    return pa.nulls(table.num_rows)


def _where_repeated(texts: pa.Array, repeated: Keys) -> pa.Array:
    return pc.if_else(pa.array(ItemKeys(repeated).find(keys_of(texts)) != NO_PLACE), texts, None)


def _kind(kind: pa.DataType) -> str:
    """A type's name without the differences between readers (large and view strings, list item names)."""
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "string"
    if pa.types.is_map(kind):
        return f"map<{_kind(kind.key_type)}, {_kind(kind.item_type)}>"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return f"list<{_kind(kind.value_type)}>"
    return str(kind)
