"""Delta source: the rows of pinned table versions, silver joined with the vectors of one space by item_id.

A shard is a range of ids: Delta skips the files whose least and greatest ids lie outside. Its columns must fit into
memory; its vectors go through a file, for the table holds them in any order.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from index_builder.gather import VECTOR_COLUMNS, place_vectors
from index_builder.k_means import SEED
from index_builder.source import NAMED, Block, Coverage, Sample, Shard
from index_builder.vector_file import VectorFile
from lookalike.contracts.encoder import Vectors
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.progress import Progress
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import EMBEDDINGS, SILVER, TableContract
from lookalike.storage.delta import DeltaTables

LEFT_OUT = ("snapshot_id", "deleted", "shard")
ITEM_COLUMNS = tuple(name for name in SILVER.schema.names if name not in LEFT_OUT)
ITEM_SCHEMA = pa.schema([SILVER.schema.field(name).with_nullable(True) for name in ITEM_COLUMNS])
SAMPLE_COLUMNS = ("item_id", "content_hash", "title")
LIVE_ITEMS = "deleted = false"
SCRATCH_NAME = "vectors.scratch"
BLOCK_ROWS = 8_192
BOUNDARY_SAMPLE = 200_000
"""So many ids are looked at to cut ranges of about equal size; up to as many items are cut exactly."""
SAMPLE_SIGMAS = 5.0
ITEM_COPIES = 4
"""The columns of a shard are read, sorted, joined and looked up in."""


class DeltaSource:
    """The Source port over the tables of one root; see the port for its methods."""

    def __init__(self, tables: DeltaTables, space: EmbeddingSpace, versions: Mapping[str, int]) -> None:
        self._tables, self.space, self.versions = tables, space, dict(versions)

    @classmethod
    def newest(cls, tables: DeltaTables, space: EmbeddingSpace) -> "DeltaSource":
        """Of the tables as they stand. Raises NotFound when one is not there."""
        return cls(tables, space, {table.name: tables.version(table.name) for table in (SILVER, EMBEDDINGS)})

    def count(self) -> int:
        """Items that are not deleted, or vectors of the space, whichever are fewer."""
        items = min(self._live_items, self._vectors)
        if items == 0:
            self.explain_nothing()
        return items

    def item_bytes(self) -> float:
        """By the first rows of silver."""
        for batch in self._batches(SILVER, ITEM_COLUMNS, LIVE_ITEMS):
            if batch.num_rows:
                return ITEM_COPIES * float(batch.nbytes) / batch.num_rows
        return 0.0

    def shards(self, items: int) -> tuple[Shard, ...]:
        """Cut at ids of a sample, or exactly where there are few."""
        wanted = math.ceil(self._live_items / items)
        starts: list[str] = []
        if wanted > 1:
            where = " AND ".join(filter(None, (LIVE_ITEMS, drawn(self._live_items, BOUNDARY_SAMPLE))))
            ids = self._read(SILVER, ["item_id"], where)["item_id"]
            at = sorted({len(ids) * number // wanted for number in range(1, wanted)} - {0})
            starts = sorted({ids[place].as_py() for place in at}, key=str.encode)
        bounds = pairwise([None, *starts, None])
        return tuple(Shard(number=number, start=start, stop=stop) for number, (start, stop) in enumerate(bounds))

    def sample(self, wanted: int, scratch: Path, progress: Progress) -> Sample:
        """Drawn by a hash of the id: it depends neither on shards, files nor threads."""
        where = drawn(self._vectors, wanted) or "true"
        with self._scratch(scratch) as rows:
            items, filled, _ = self._gather(where, SAMPLE_COLUMNS, rows, progress)
            found = np.flatnonzero(filled)
            few = np.sort(np.random.default_rng(SEED).choice(len(found), min(len(found), wanted), replace=False))
            chosen = found[few]
            vectors = np.empty((len(chosen), self.space.dim), np.float32)
            for start in range(0, items.num_rows, BLOCK_ROWS):
                first, last = np.searchsorted(chosen, [start, start + BLOCK_ROWS])
                block = rows.read(start, min(start + BLOCK_ROWS, items.num_rows))
                vectors[first:last] = block[chosen[first:last] - start]
        return Sample(vectors, items["title"].take(pa.array(chosen)))

    def blocks(self, shard: Shard, scratch: Path, progress: Progress) -> Iterator[Block]:
        """As the port says; also raises SpaceMismatch, or LookalikeError for an id that silver has twice."""
        with self._scratch(scratch) as rows:
            items, filled, stale = self._gather(within(shard), ITEM_COLUMNS, rows, progress)
            for start in range(0, items.num_rows, BLOCK_ROWS):
                part = slice(start, min(start + BLOCK_ROWS, items.num_rows))
                vectors = rows.read(part.start, part.stop)
                yield block_of(items.slice(start, len(vectors)), vectors, filled[part], stale[part])

    def explain_nothing(self) -> NoReturn:
        """Raises SpaceMismatch where all vectors are of other spaces."""
        if self._live_items == 0:
            raise LookalikeError("table silver holds no items that are not deleted; run `lookalike ingest` first")
        spaces: set[str] = set()
        for batch in self._batches(EMBEDDINGS, ["space"], None):
            spaces |= set(batch["space"].unique().to_pylist())
        if spaces and self.space.fingerprint not in spaces:
            self.space.require(", ".join(sorted(spaces)), "every vector of table embeddings")
        raise LookalikeError(
            f"none of the {self._live_items:,} items of table silver has a current vector in space "
            f"{self.space.fingerprint} ({self.space.encoder}); run `lookalike embed` first"
        )

    @cached_property
    def _live_items(self) -> int:
        return sum(batch.num_rows for batch in self._batches(SILVER, ["item_id"], LIVE_ITEMS))

    @cached_property
    def _vectors(self) -> int:
        return sum(batch.num_rows for batch in self._batches(EMBEDDINGS, ["item_id"], self._of_space))

    @property
    def _of_space(self) -> str:
        return f"space = '{self.space.fingerprint}'"

    def _batches(self, table: TableContract, columns: Sequence[str], where: str | None) -> Iterator[pa.RecordBatch]:
        return self._tables.batches(table, columns, where, self.versions[table.name])

    def _read(self, table: TableContract, columns: Sequence[str], where: str) -> pa.Table:
        return self._tables.read(table, columns, where, self.versions[table.name], order_by="item_id")

    @contextmanager
    def _scratch(self, folder: Path) -> Iterator[VectorFile]:
        path = folder / SCRATCH_NAME
        try:
            with VectorFile(path, self.space.dim, new=True) as rows:
                yield rows
        finally:
            path.unlink(missing_ok=True)

    def _gather(
        self, where: str, columns: tuple[str, ...], rows: VectorFile, progress: Progress
    ) -> tuple[pa.Table, NDArray[np.bool_], NDArray[np.bool_]]:
        """Items for which `where` (SQL on item_id) holds, by id; which have a vector, which only a stale one."""
        items = self._read(SILVER, columns, f"{LIVE_ITEMS} AND {where}").combine_chunks()
        require_unique(items["item_id"])
        with progress.step("read vectors", items.num_rows) as step:
            vectors = self._batches(EMBEDDINGS, VECTOR_COLUMNS, f"{self._of_space} AND {where}")
            return items, *place_vectors(vectors, items, rows, self.space, step.advance)


def drawn(items: int, wanted: int) -> str:
    """SQL that holds for about `wanted` of `items` ids or a little more, the same ones whoever asks; "" for all."""
    share = (wanted + SAMPLE_SIGMAS * math.sqrt(wanted)) / max(items, 1)
    return "" if share >= 1 else f"md5(item_id) < '{int(share * 2**32):08x}'"


def within(shard: Shard) -> str:
    """SQL for the item ids of a shard."""
    bounds = [
        f"item_id {sign} '{_quoted(bound)}'"
        for sign, bound in ((">=", shard.start), ("<", shard.stop))
        if bound is not None
    ]
    return " AND ".join(bounds) or "true"


def block_of(items: pa.Table, vectors: Vectors, filled: NDArray[np.bool_], stale: NDArray[np.bool_]) -> Block:
    """The rows that have a vector, and how many there are of which kind; all arguments are of the same rows."""
    bare = items["item_id"].filter(pa.array(~filled))
    coverage = Coverage(
        silver_items=items.num_rows,
        indexed=int(filled.sum()),
        without_vector=len(bare) - int(stale.sum()),
        vector_of_an_older_picture=int(stale.sum()),
        first_left_out=tuple(bare.slice(0, NAMED).to_pylist()),
    )
    return Block(items.filter(pa.array(filled)), vectors[filled], coverage)


def require_unique(ids: pa.ChunkedArray) -> None:
    """Raises LookalikeError for one that is there twice; `ids` are sorted, so it stands beside itself."""
    if len(ids) < 2:
        return
    same = pc.equal(ids.slice(1), ids.slice(0, len(ids) - 1))
    repeated = ids.slice(1).filter(same).unique().to_pylist()
    if repeated:
        raise LookalikeError(
            f"table silver holds {len(repeated):,} item ids twice: {', '.join(repeated[:NAMED])}. Its key is item_id; "
            f"run `lookalike ingest` again or restore an earlier version of the table."
        )


def _quoted(text: str) -> str:
    return text.replace("'", "''")
