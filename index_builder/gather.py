"""Gather the rows of an index from pinned table versions: silver joined with the vectors of one space, by item_id.

Rows are ordered by item_id (bytes of UTF-8), so that the same inputs give the same index whatever order files are read
in, and so that an id is found later by bisection. One shard, a range of ids, is gathered at a time: its columns must
fit into memory, its vectors go to a file. Delta skips the files whose least and greatest ids lie outside the range.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookalike.contracts.encoder import Vectors
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.progress import Progress
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.storage.delta import DeltaTables

LEFT_OUT = ("snapshot_id", "deleted", "shard")
ITEM_COLUMNS = tuple(name for name in SILVER.schema.names if name not in LEFT_OUT)
VECTOR_COLUMNS = ("item_id", "space", "content_hash", "vector")
LIVE_ITEMS = "deleted = false"
NORM_TOLERANCE = 1e-3
LOOKUP_ROWS = 65_536
NAMED = 5
"""How many offending ids an error names."""


class BadVectors(LookalikeError):
    """Vectors that may not enter an index: not finite, not of unit length, of a wrong size, or twice for one item."""


@dataclass(frozen=True)
class Gathered:
    """`items` row i describes `vectors` row i. `coverage` counts what silver had and what got a vector."""

    items: pa.Table
    vectors: Vectors
    coverage: dict[str, int | list[str]]


def of_space(space: EmbeddingSpace) -> str:
    """SQL for the vectors of one space."""
    return f"space = '{space.fingerprint}'"


def within(start: str | None, stop: str | None) -> str:
    """SQL for the item ids from `start` to before `stop`; None is open."""
    bounds = [f"item_id {sign} '{_quoted(bound)}'" for sign, bound in ((">=", start), ("<", stop)) if bound is not None]
    return " AND ".join(bounds) or "true"


def gather(
    tables: DeltaTables,
    versions: Mapping[str, int],
    space: EmbeddingSpace,
    where: str,
    scratch: Path,
    progress: Progress,
) -> Gathered:
    """Read and join the rows of both tables for which `where` (SQL on item_id) holds; vectors go to the file `scratch`.

    Raises SpaceMismatch, BadVectors, or LookalikeError for an id that is there twice. There may be no rows.
    """
    items = tables.read(
        SILVER, ITEM_COLUMNS, f"{LIVE_ITEMS} AND {where}", versions[SILVER.name], order_by="item_id"
    ).combine_chunks()
    _require_unique(items["item_id"])
    vectors = np.memmap(scratch, np.float32, "w+", shape=(max(items.num_rows, 1), space.dim))[: items.num_rows]
    batches = tables.batches(EMBEDDINGS, VECTOR_COLUMNS, f"{of_space(space)} AND {where}", versions[EMBEDDINGS.name])
    with progress.step("read vectors", items.num_rows) as step:
        filled, stale = place_vectors(batches, items, vectors, space, step.advance)
    missing = items["item_id"].filter(pa.array(~filled))
    coverage: dict[str, int | list[str]] = {
        "silver_items": items.num_rows,
        "indexed": int(filled.sum()),
        "without_vector": len(missing) - stale,
        "vector_of_an_older_picture": stale,
        "first_left_out": missing.slice(0, NAMED).to_pylist(),
    }
    if filled.all():
        return Gathered(items, vectors, coverage)
    return Gathered(items.filter(pa.array(filled)).combine_chunks(), _compact(vectors, filled), coverage)


def place_vectors(
    batches: Iterable[pa.RecordBatch],
    items: pa.Table,
    vectors: Vectors,
    space: EmbeddingSpace,
    advance: Callable[[int], None] | None = None,
) -> tuple[NDArray[np.bool_], int]:
    """Check each vector and write it to its item's row of `vectors`, in place.

    Returns which rows got one, shape (items,), and how many vectors were of an older picture of their item (left
    out). Vectors of items that silver no longer has are passed over.
    """
    filled = np.zeros(items.num_rows, dtype=bool)
    stale = 0
    ids, hashes = items["item_id"], items["content_hash"]
    for batch in _coalesced(batches):
        block = check_vectors(batch, space)
        found = pc.index_in(batch["item_id"], value_set=ids)
        known = np.flatnonzero(np.asarray(found.is_valid()))
        rows = found.drop_null().to_numpy(zero_copy_only=False).astype(np.int64)
        current = np.asarray(pc.equal(batch["content_hash"].take(pa.array(known)), hashes.take(pa.array(rows))))
        stale += int((~current).sum())
        rows, known = rows[current], known[current]
        again = np.concatenate([rows[filled[rows]], _repeated(rows)])
        _refuse(ids.take(pa.array(again)).to_pylist(), "have two vectors in this space", "key (item_id, space) broken")
        vectors[rows] = block[known]
        filled[rows] = True
        if advance is not None:
            advance(len(rows))
    return filled, stale


def check_vectors(batch: pa.RecordBatch, space: EmbeddingSpace) -> Vectors:
    """The batch's vectors, shape (rows, dim), or an error that names the first offending ids."""
    ids = batch["item_id"]
    foreign = np.asarray(pc.not_equal(batch["space"], space.fingerprint))
    if foreign.any():
        named = ids.filter(pa.array(foreign)).slice(0, NAMED).to_pylist()
        space.require(batch["space"].filter(pa.array(foreign))[0].as_py(), f"the vector of {named}")
    sizes = np.asarray(pc.fill_null(pc.list_value_length(batch["vector"]), -1))
    wrong = sizes != space.dim
    _refuse(ids.filter(pa.array(wrong)).to_pylist(), f"are not of {space.dim} dimensions", "embed them again")
    block: Vectors = batch["vector"].flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, space.dim)
    bad = ~np.isfinite(block).all(axis=1)
    _refuse(ids.filter(pa.array(bad)).to_pylist(), "hold NaN or infinity", "delete these rows and embed again")
    norms = np.sqrt(np.einsum("nd,nd->n", block, block, dtype=np.float64))
    bad = np.abs(norms - 1.0) > NORM_TOLERANCE
    _refuse(
        ids.filter(pa.array(bad)).to_pylist(),
        f"are not of unit length (± {NORM_TOLERANCE})",
        "normalise when embedding",
    )
    return block


def _coalesced(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Join small batches: each look-up hashes all item ids anew, so there should be few."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(each.num_rows for each in waiting) >= LOOKUP_ROWS:
            yield pa.concat_batches(waiting)
            waiting = []
    if waiting:
        yield pa.concat_batches(waiting)


def _refuse(ids: list[str], what: str, remedy: str) -> None:
    if ids:
        more = ", …" if len(ids) > NAMED else ""
        raise BadVectors(
            f"the vectors of {len(ids):,} items {what}: {', '.join(map(str, ids[:NAMED]))}{more}. Allowed are finite "
            f"vectors of unit length, one per item; {remedy}."
        )


def _repeated(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    values, counts = np.unique(rows, return_counts=True)
    return values[counts > 1]


def _require_unique(ids: pa.ChunkedArray) -> None:
    """`ids` are sorted: a repeated one stands beside itself."""
    if len(ids) < 2:
        return
    same = pc.equal(ids.slice(1), ids.slice(0, len(ids) - 1))
    repeated = ids.slice(1).filter(same).unique().to_pylist()
    if repeated:
        raise LookalikeError(
            f"table silver holds {len(repeated):,} item ids twice: {', '.join(repeated[:NAMED])}. Its key is item_id; "
            f"run `lookalike ingest` again or restore an earlier version of the table."
        )


def _compact(vectors: Vectors, filled: NDArray[np.bool_]) -> Vectors:
    """Move the filled rows to the front, block by block, within the scratch file."""
    end = 0
    for start in range(0, len(vectors), 65_536):
        keep = np.array(vectors[start : start + 65_536][filled[start : start + 65_536]])
        vectors[end : end + len(keep)] = keep
        end += len(keep)
    return vectors[:end]


def explain_nothing(tables: DeltaTables, versions: Mapping[str, int], space: EmbeddingSpace, items: int) -> NoReturn:
    """Say why not one of the `items` rows of silver has a vector: SpaceMismatch or LookalikeError."""
    if items == 0:
        raise LookalikeError("table silver holds no items that are not deleted; run `lookalike ingest` first")
    spaces: set[str] = set()
    for batch in tables.batches(EMBEDDINGS, ["space"], None, versions[EMBEDDINGS.name]):
        spaces |= set(batch["space"].unique().to_pylist())
    if spaces and space.fingerprint not in spaces:
        space.require(", ".join(sorted(spaces)), "every vector of table embeddings")
    raise LookalikeError(
        f"none of the {items:,} items of table silver has a current vector in space {space.fingerprint} "
        f"({space.encoder}); run `lookalike embed` first"
    )


def _quoted(text: str) -> str:
    return text.replace("'", "''")
