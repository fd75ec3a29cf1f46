"""Stream source: the rows of one shard as a cluster hands them over, items and vectors mixed, in the order of ids.

An item and its vectors stand beside each other, so that a few thousand rows at a time are joined and checked as
`delta_source` does with a whole shard; nothing but these is in memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from index_builder.delta_source import BLOCK_ROWS, ITEM_SCHEMA, block_of, require_unique
from index_builder.gather import VECTOR_COLUMNS, place_vectors
from index_builder.source import Block, Shard
from lookalike.contracts.progress import Progress
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import EMBEDDINGS

IS_VECTOR = "is_vector"
STREAM_SCHEMA = pa.schema(
    [
        *ITEM_SCHEMA,
        pa.field(IS_VECTOR, pa.bool_()),
        *(EMBEDDINGS.schema.field(name).with_nullable(True) for name in ("space", "vector")),
    ]
)
"""A row is an item, or where IS_VECTOR a vector with the `item_id` and `content_hash` that it is of."""


@dataclass(frozen=True)
class StreamSource:
    """The ShardSource port over `batches` of STREAM_SCHEMA, sorted by item_id: the whole of one shard."""

    space: EmbeddingSpace
    batches: Iterator[pa.RecordBatch]

    def blocks(self, shard: Shard, scratch: Path, progress: Progress) -> Iterator[Block]:
        """As the port says; also raises SpaceMismatch, or LookalikeError for an id that silver has twice."""
        for rows in _whole_items(self.batches, BLOCK_ROWS):
            items = rows.filter(pc.invert(rows[IS_VECTOR])).select(ITEM_SCHEMA.names).cast(ITEM_SCHEMA).combine_chunks()
            require_unique(items["item_id"])
            vectors = np.zeros((items.num_rows, self.space.dim), np.float32)
            given = rows.filter(rows[IS_VECTOR]).select(VECTOR_COLUMNS).combine_chunks().to_batches()
            filled, stale = place_vectors(given, items, vectors, self.space)
            yield block_of(items, vectors, filled, stale)


def _whole_items(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """About so many rows at a time, and all that belong to one item together."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(each.num_rows for each in waiting) < rows:
            continue
        table = pa.Table.from_batches(waiting)
        cut = pc.index(table["item_id"], table["item_id"][-1]).as_py()
        if cut:
            yield table.slice(0, cut)
        waiting = table.slice(cut).to_batches()
    if waiting:
        yield pa.Table.from_batches(waiting)
