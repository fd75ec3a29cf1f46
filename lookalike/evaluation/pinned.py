"""What the tables held at the pinned versions: rows, vectors and labels, read apart from any index.

Everything is held in memory, about 4 x dim bytes per item beside the rows; a catalogue that does not fit is measured
on a pinned sample of its shards.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lookalike.contracts.encoder import Vectors
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.evaluation.candidate import Questions
from lookalike.evaluation.label import Labels
from lookalike.evaluation.metrics import NO_ROW
from lookalike.evaluation.truth import Reference
from lookalike.storage.delta import DeltaTables


@dataclass(frozen=True)
class Pinned:
    """`silver`: rows not deleted; `embeddings`: rows of the space; all contract columns, ordered by item_id.

    `reference`: the items with a vector of their present picture, which is what an index should hold.
    """

    silver: pa.Table
    embeddings: pa.Table
    reference: Reference
    labels: Labels


def read_pinned(tables: DeltaTables, space: EmbeddingSpace, versions: Mapping[str, int]) -> Pinned:
    """Read silver and embeddings at `versions` (a manifest's `table_versions`). Raises NotFound without a table."""
    silver = tables.read(SILVER, None, "deleted = false", versions[SILVER.name], order_by="item_id")
    of_space = f"space = '{space.fingerprint}'"
    embeddings = tables.read(EMBEDDINGS, None, of_space, versions[EMBEDDINGS.name], order_by="item_id")
    return Pinned(silver, embeddings, reference_of(silver, embeddings, space.dim), Labels.from_silver(silver))


def reference_of(silver: pa.Table, embeddings: pa.Table, dim: int) -> Reference:
    """Items of `silver` with the vector of their present picture, shape (n, dim), in the order of `embeddings`.

    Vectors of another length cannot be in the matrix and are left out; the embeddings suite reports them.
    """
    place = pc.index_in(embeddings["item_id"], value_set=silver["item_id"].combine_chunks())
    present = pc.equal(embeddings["content_hash"], pc.take(silver["content_hash"], place))
    right_length = pc.equal(pc.list_value_length(embeddings["vector"]), dim)
    kept = embeddings.filter(pc.fill_null(pc.and_kleene(present, right_length), False))
    flat = pc.fill_null(pc.list_flatten(kept["vector"]), np.nan)
    vectors: Vectors = flat.to_numpy().astype(np.float32).reshape(-1, dim)
    return Reference(kept["item_id"].to_pylist(), vectors)


def questions_about(
    item_ids: Sequence[str], reference: Reference, labels: Labels, encode_texts: Callable[[Sequence[str]], Vectors]
) -> Questions:
    """Questions with the vectors of one space: stored ones for pictures, titles encoded now (each distinct one once).

    Raises LookalikeError when an item has no vector in `reference`.
    """
    rows = reference.rows_in(item_ids)
    if (rows == NO_ROW).any():
        lacking = [item for item, row in zip(item_ids, rows, strict=True) if row == NO_ROW]
        raise LookalikeError(
            f"{len(lacking)} of {len(item_ids)} items to ask about have no vector in this space (first: {lacking[0]}); "
            f"draw the questions among items of both spaces."
        )
    titles = sorted({labels.titles[item] for item in item_ids})
    place = {title: row for row, title in enumerate(titles)}
    encoded = encode_texts(titles)
    return Questions(
        list(item_ids), reference.vectors[rows], encoded[[place[labels.titles[item]] for item in item_ids]]
    )
