"""Gather vectors in the order of their items: read in any order, checked one by one, and put into a file by row."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from index_builder.source import NAMED
from index_builder.vector_file import VectorFile
from lookalike.contracts.encoder import Vectors
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.space import EmbeddingSpace

VECTOR_COLUMNS = ("item_id", "space", "content_hash", "vector")
NORM_TOLERANCE = 1e-3
LOOKUP_BYTES = 32 * 2**20


class BadVectors(LookalikeError):
    """Vectors that may not enter an index: not finite, not of unit length, of a wrong size, or twice for one item."""


def place_vectors(
    batches: Iterable[pa.RecordBatch],
    items: pa.Table,
    vectors: VectorFile | Vectors,
    space: EmbeddingSpace,
    advance: Callable[[int], None] | None = None,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Check each vector and write it to its item's row of `vectors`, in place.

    Returns which rows got one and which have one of an older picture only, shape (items,) each. Vectors of items that
    are not among `items` are passed over.
    """
    filled, stale = np.zeros(items.num_rows, dtype=bool), np.zeros(items.num_rows, dtype=bool)
    ids, hashes = items["item_id"], items["content_hash"]
    for batch in _coalesced(batches, max(1, LOOKUP_BYTES // (4 * space.dim))):
        block = check_vectors(batch, space)
        found = pc.index_in(batch["item_id"], value_set=ids)
        known = np.flatnonzero(np.asarray(found.is_valid()))
        rows = found.drop_null().to_numpy(zero_copy_only=False).astype(np.int64)
        current = np.asarray(pc.equal(batch["content_hash"].take(pa.array(known)), hashes.take(pa.array(rows))))
        stale[rows[~current]] = True
        rows, known = rows[current], known[current]
        again = np.concatenate([rows[filled[rows]], _repeated(rows)])
        refuse_vectors(
            ids.take(pa.array(again)).to_pylist(), "have two vectors in this space", "key (item_id, space) broken"
        )
        vectors[rows] = block[known]
        filled[rows] = True
        if advance is not None:
            advance(len(rows))
    return filled, stale & ~filled


def check_vectors(batch: pa.RecordBatch, space: EmbeddingSpace) -> Vectors:
    """The batch's vectors, shape (rows, dim), or an error that names the first offending ids."""
    ids = batch["item_id"]
    foreign = np.asarray(pc.not_equal(batch["space"], space.fingerprint))
    if foreign.any():
        named = ids.filter(pa.array(foreign)).slice(0, NAMED).to_pylist()
        space.require(batch["space"].filter(pa.array(foreign))[0].as_py(), f"the vector of {named}")
    sizes = np.asarray(pc.fill_null(pc.list_value_length(batch["vector"]), -1))
    wrong = sizes != space.dim
    refuse_vectors(ids.filter(pa.array(wrong)).to_pylist(), f"are not of {space.dim} dimensions", "embed them again")
    flat = batch["vector"].flatten().to_numpy(zero_copy_only=False)
    block: Vectors = flat.astype(np.float32, copy=False).reshape(-1, space.dim)
    bad = ~np.isfinite(block).all(axis=1)
    refuse_vectors(ids.filter(pa.array(bad)).to_pylist(), "hold NaN or infinity", "delete these rows and embed again")
    norms = np.sqrt(np.einsum("nd,nd->n", block, block, dtype=np.float64))
    bad = np.abs(norms - 1.0) > NORM_TOLERANCE
    refuse_vectors(
        ids.filter(pa.array(bad)).to_pylist(),
        f"are not of unit length (± {NORM_TOLERANCE})",
        "normalise when embedding",
    )
    return block


def refuse_vectors(ids: list[str], what: str, remedy: str) -> None:
    """Raises BadVectors when there are any `ids`."""
    if ids:
        more = ", …" if len(ids) > NAMED else ""
        raise BadVectors(
            f"the vectors of {len(ids):,} items {what}: {', '.join(map(str, ids[:NAMED]))}{more}. Allowed are finite "
            f"vectors of unit length, one per item; {remedy}."
        )


def _coalesced(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Join small batches and cut large ones: each look-up hashes all item ids anew, so there should be few."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(each.num_rows for each in waiting) >= rows:
            yield from _cut(waiting, rows)
            waiting = []
    if waiting:
        yield from _cut(waiting, rows)


def _cut(batches: list[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    for batch in pa.Table.from_batches(batches).combine_chunks().to_batches(max_chunksize=rows):
        if batch.num_rows:
            yield batch


def _repeated(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    values, counts = np.unique(rows, return_counts=True)
    return values[counts > 1]
