"""What the tables held at the pinned versions, read apart from any index, as streams: no column is held whole.

What grows with the items is 32 bytes of keys each (`label.Labels`) and one bit of `Pinned.current`.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lookalike.contracts.encoder import Vectors
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.item_keys import NO_PLACE, Rows, keys_of, lowest
from lookalike.contracts.row_set import RowSet
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.evaluation.candidate import Questions
from lookalike.evaluation.label import LABEL_COLUMNS, Labels
from lookalike.evaluation.truth import Reference, among
from lookalike.storage.delta import DeltaTables

VECTOR_COLUMNS = ("item_id", "space", "content_hash", "vector")
SHOWN = ("item_id", "title", "image_path")


@dataclass(frozen=True)
class PinnedTables:
    """Rows of silver and embeddings at the versions of a manifest (None: the newest); each call reads anew."""

    tables: DeltaTables
    versions: Mapping[str, int | None]

    def silver(self, columns: Sequence[str] | None = None, where: str = "deleted = false") -> Iterator[pa.RecordBatch]:
        """Rows that are not deleted."""
        return self.tables.batches(SILVER, columns, where, self.versions[SILVER.name])

    def embeddings(self, space: EmbeddingSpace, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Rows of one space."""
        where = f"space = '{space.fingerprint}'"
        return self.tables.batches(EMBEDDINGS, columns, where, self.versions[EMBEDDINGS.name])


@dataclass(frozen=True)
class Pinned:
    """The live items and which of them have a vector of their present picture, which is what an index should hold.

    `drawn` and `labelled`: items drawn among all that have one, and among those whose group has another item.
    """

    tables: PinnedTables
    labels: Labels
    reference: Reference
    spaces: Collection[str]
    drawn: "Sample"
    labelled: "Sample"


@dataclass
class Sample:
    """At most `size` items drawn by seed, with their vectors: the same ones, in whatever order and parts they come."""

    size: int
    seed: int
    item_ids: list[str] = field(default_factory=list)
    vectors: Vectors = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    def add(self, item_ids: pa.Array, vectors: Vectors) -> None:
        """Look at more items: ids, and their vectors, shape (n, dim)."""
        near = lowest(keys_of(item_ids), self.size, self.seed)
        ids = [*self.item_ids, *item_ids.take(pa.array(near)).to_pylist()]
        both = np.concatenate([self.vectors.reshape(-1, vectors.shape[1]), vectors[near]])
        kept = lowest(keys_of(pa.array(ids, pa.string())), self.size, self.seed)
        self.item_ids, self.vectors = [ids[at] for at in kept], both[kept]

    def of(self, item_ids: Sequence[str]) -> Vectors:
        """Vectors of some of the items, shape (n, dim). Raises KeyError for one that was not drawn."""
        place = {item: row for row, item in enumerate(self.item_ids)}
        return self.vectors[[place[item] for item in item_ids]]


def read_pinned(tables: PinnedTables, space: EmbeddingSpace, size: int, seed: int) -> Pinned:
    """Read keys and labels of silver, then all vectors once, and draw `size` items. Raises NotFound without a table."""
    labels = Labels.from_silver(tables.silver(LABEL_COLUMNS))
    twins = labels.labelled()
    drawn, labelled = Sample(size, seed), Sample(size, seed)
    mask, spaces = np.zeros(len(labels.items), dtype=bool), set[str]()
    for places, vectors, rows in present_vectors(tables, space, labels):
        mask[places] = True
        spaces.update(pc.unique(rows["space"]).to_pylist())
        drawn.add(rows["item_id"], vectors)
        with_twin = np.flatnonzero(twins.has(places))
        labelled.add(rows["item_id"].take(pa.array(with_twin)), vectors[with_twin])

    def blocks() -> Iterator[tuple[Rows, Vectors]]:
        return ((places, vectors) for places, vectors, _ in present_vectors(tables, space, labels))

    reference = Reference(labels.items, RowSet.of(mask), blocks)
    return Pinned(tables, labels, reference, spaces, _sorted(drawn), _sorted(labelled))


def present_vectors(
    tables: PinnedTables, space: EmbeddingSpace, labels: Labels
) -> Iterator[tuple[Rows, Vectors, pa.RecordBatch]]:
    """Places and vectors, shape (n, dim), of live items whose vector is of their present picture, with their rows.

    Vectors of another length are left out; the embeddings suite reports them.
    """
    for batch in tables.embeddings(space, VECTOR_COLUMNS):
        places = labels.items.find(keys_of(batch["item_id"]))
        fits = np.asarray(pc.fill_null(pc.equal(pc.list_value_length(batch["vector"]), space.dim), False))
        known = np.flatnonzero(fits & (places != NO_PLACE))
        kept = known[labels.pictures[places[known]] == keys_of(batch["content_hash"])[known]]
        rows = batch.take(pa.array(kept))
        flat = pc.fill_null(pc.list_flatten(rows["vector"]), np.nan)
        yield places[kept], flat.to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, space.dim), rows


def vectors_of(tables: PinnedTables, space: EmbeddingSpace, labels: Labels, item_ids: Sequence[str]) -> Sample:
    """Vectors of some items in any space; items without one are left out."""
    wanted = RowSet.of_rows(np.unique(labels.places(item_ids)), len(labels.items))
    found = Sample(len(item_ids), 0)
    for places, vectors, rows in present_vectors(tables, space, labels):
        asked = np.flatnonzero(among(wanted, places))
        found.add(rows["item_id"].take(pa.array(asked)), vectors[asked])
    return _sorted(found)


def shown_of(tables: PinnedTables, item_ids: Collection[str], column: str) -> dict[str, str]:
    """One of the columns SHOWN by item id, of these items."""
    wanted = pa.array(sorted(item_ids), pa.string())
    found: dict[str, str] = {}
    for batch in tables.silver(["item_id", column]):
        rows = batch.filter(pc.is_in(batch["item_id"], value_set=wanted))
        found.update(zip(rows["item_id"].to_pylist(), rows[column].to_pylist(), strict=True))
    return found


def questions_about(
    item_ids: Sequence[str],
    vectors: Vectors,
    titles: Mapping[str, str],
    encode_texts: Callable[[Sequence[str]], Vectors],
) -> Questions:
    """Questions with the vectors of one space: stored ones, shape (n, dim), for pictures, titles encoded now.

    Each distinct title is encoded once. Raises LookalikeError when an item has no title.
    """
    lacking = [item for item in item_ids if item not in titles]
    if lacking:
        raise LookalikeError(
            f"{len(lacking)} of {len(item_ids)} items to ask about have no title (first: {lacking[0]})"
        )
    distinct = sorted({titles[item] for item in item_ids})
    place = {title: row for row, title in enumerate(distinct)}
    encoded = encode_texts(distinct)
    return Questions(list(item_ids), vectors, encoded[[place[titles[item]] for item in item_ids]])


def _sorted(sample: Sample) -> Sample:
    order = sorted(range(len(sample.item_ids)), key=sample.item_ids.__getitem__)
    return Sample(sample.size, sample.seed, [sample.item_ids[at] for at in order], sample.vectors[order])
