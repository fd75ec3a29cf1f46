"""The row function of the nightly fold, as Spark's Python workers run it: archived states of one item to its row.

The same `ItemState.merge` and `silver_row` as everywhere else. Only finite vectors of unit length, of the picture that
the joined state shows, go on. A module of its own, since Spark pickles functions of modules by reference.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial, reduce
from typing import Any

import numpy as np
import pyarrow as pa

from lookalike.contracts.item_state import ItemState
from lookalike.contracts.tables import SILVER

STREAM = "stream"
"""snapshot_id of rows whose whole row came as a change."""
NORM_TOLERANCE = 1e-3

VECTOR = pa.struct(
    [pa.field("space", pa.string()), pa.field("vector", pa.list_(pa.float32())), pa.field("l2_norm", pa.float32())]
)
FOLDED = pa.schema(
    [
        *(pa.field(column.name, column.type) for column in SILVER.schema),
        pa.field("vectors", pa.list_(VECTOR)),
        pa.field("bad_vectors", pa.int32()),
    ]
)


def folder(shards: int) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """`fold_rows` for a number of shards, as mapInArrow takes it."""
    return partial(fold_rows, shards)


def fold_rows(shards: int, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """(messages: list of {state, vectors}) → FOLDED, one row per item."""
    for batch in batches:
        rows = [_folded(row["messages"], shards) for row in batch.to_pylist()]
        yield pa.RecordBatch.from_pylist(rows, schema=FOLDED)


def state_row(state: ItemState, shards: int) -> dict[str, Any]:
    """The state's row of SILVER; of an item that nothing describes, which has none, what its changes have set."""
    from lookalike.catalogue.silver_rows import shard_of, silver_row

    if state.described:
        return silver_row(state, STREAM, shards)
    return {
        **state.columns,
        "item_id": state.item_id,
        "version": state.version,
        "deleted": state.deleted,
        "shard": shard_of(state.item_id, shards),
        "base_version": state.base_version,
        "column_versions": dict(state.column_versions),
        "changed_at": state.changed_at,
    }


def _folded(messages: list[dict[str, Any]], shards: int) -> dict[str, Any]:
    """One item: its last message of each partition (in practice of one), joined."""
    states = [ItemState.from_dict(json.loads(message["state"])) for message in messages]
    state = reduce(ItemState.merge, states)
    shown = [each for known, message in zip(states, messages, strict=True)
             for each in message["vectors"] or () if known.content_hash == state.content_hash]  # fmt: skip
    checked = {each["space"]: _checked(each) for each in shown}
    good = [vector for vector in checked.values() if vector is not None]
    return {**state_row(state, shards), "vectors": good, "bad_vectors": len(checked) - len(good)}


def _checked(given: dict[str, Any]) -> dict[str, Any] | None:
    """The vector with its length, or None when no index may have it."""
    vector = np.asarray(given["vector"] or (), dtype=np.float32)
    if not vector.size or not np.isfinite(vector).all():
        return None
    norm = float(np.linalg.norm(vector))
    return {**given, "l2_norm": norm} if abs(norm - 1.0) <= NORM_TOLERANCE else None
