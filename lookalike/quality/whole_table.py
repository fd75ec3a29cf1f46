"""What only all rows together tell: keys given twice, sources that state licences, items without a vector.

A first reading keeps 64-bit keys, at most 26 bytes per item; then each row can be judged in a block of its own.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookalike.contracts.item_keys import NO_KEY, NO_PLACE, ItemKeys, Keys, keys_of
from lookalike.quality.blocks import BLOCK_ROWS, Source
from lookalike.quality.facts import live_rows, texts_of, vector_names

SILVER_KEYS = ("item_id", "content_hash", "source", "licence", "deleted")
EMBEDDING_KEYS = ("item_id", "space", "content_hash")
_CONFIRMED = 100_000
"""Keys met twice that are looked up by text; chance makes less than one of 100 million rows, so more are true."""


@dataclass(frozen=True)
class WholeSilver:
    """Of all live rows: keys of the item_id, ascending, and of the content_hash beside each.

    `repeated`: keys of ids given twice or more. `licensing`: sources that state a licence for most of their rows.
    """

    items: Keys
    pictures: Keys
    repeated: Keys
    licensing: pa.Array


@dataclass(frozen=True)
class WholeEmbeddings:
    """`repeated`: keys of vectors given twice or more. `covered`, `current`, shape (items,): has the item of each of
    the keys of silver a vector, and one of its present picture?
    """

    rows: int
    repeated: Keys
    covered: NDArray[np.bool_]
    current: NDArray[np.bool_]


def read_silver(silver: Source) -> WholeSilver:
    """Read the keys of all live rows."""
    items, pictures, stated = [], [], dict[str | None, NDArray[np.int64]]()
    for batch in silver.batches(SILVER_KEYS):
        rows = live_rows(batch)
        items.append(keys_of(texts_of(rows, "item_id")))
        pictures.append(keys_of(texts_of(rows, "content_hash")))
        given = pa.table({"source": texts_of(rows, "source"), "given": pc.is_valid(texts_of(rows, "licence"))})
        for told in given.group_by("source").aggregate([("given", "sum"), ("given", "count")]).to_pylist():
            counts = np.array([told["given_sum"], told["given_count"]])
            stated[told["source"]] = stated.get(told["source"], 0) + counts
    keys, hashes = np.concatenate(items), np.concatenate(pictures)
    order = np.argsort(keys)
    keys, hashes = keys[order], hashes[order]
    licensing = pa.array([source for source, (given, rows) in stated.items() if 2 * given > rows], pa.string())
    names = (texts_of(live_rows(batch), "item_id") for batch in silver.batches(("item_id", "deleted")))
    return WholeSilver(keys, hashes, repeated_keys(keys, names), licensing)


def read_embeddings(embeddings: Source, silver: WholeSilver, fingerprint: str) -> WholeEmbeddings:
    """Read the keys of all embeddings, and which items those of the space `fingerprint` cover."""
    items, vectors = ItemKeys(silver.items), []
    covered, current = np.zeros(len(items), dtype=bool), np.zeros(len(items), dtype=bool)
    for batch in embeddings.batches(EMBEDDING_KEYS):
        vectors.append(keys_of(vector_names(batch)))
        own = batch.filter(pc.equal(texts_of(batch, "space"), fingerprint))
        places, pictures = items.find(keys_of(texts_of(own, "item_id"))), keys_of(texts_of(own, "content_hash"))
        fits = (places != NO_PLACE) & (pictures != NO_KEY)
        fits[fits] = silver.pictures[places[fits]] == pictures[fits]
        covered[places[places != NO_PLACE]] = True
        current[places[fits]] = True
    keys = np.sort(np.concatenate(vectors))
    names = (vector_names(batch) for batch in embeddings.batches(EMBEDDING_KEYS))
    return WholeEmbeddings(len(keys), repeated_keys(keys, names), covered, current)


def repeated_keys(keys: Keys, texts: Iterable[pa.Array]) -> Keys:
    """Those keys, ascending, of a text that is given twice; `keys` ascending. Texts are read only if a key is."""
    twice: Keys = np.unique(keys[1:][(keys[1:] == keys[:-1]) & (keys[1:] != NO_KEY)])
    if not len(twice):
        return twice
    suspected, met, confirmed = ItemKeys(twice[:_CONFIRMED]), set[str](), set[str]()
    for column in texts:
        near = column.filter(pa.array(suspected.find(keys_of(column)) != NO_PLACE))
        for text in near.to_pylist():
            (confirmed if text in met else met).add(text)
    repeated: Keys = np.union1d(keys_of(pa.array(sorted(confirmed), pa.string())), twice[_CONFIRMED:])
    return repeated


def coverage_blocks(silver: WholeSilver, embeddings: WholeEmbeddings) -> Iterator[pa.Table]:
    """One row per live item: has it a vector of this space, and one of its present picture?"""
    items = ItemKeys(silver.items)
    for start in range(0, max(len(items), 1), BLOCK_ROWS):
        places = items.find(items.keys[start : start + BLOCK_ROWS])
        yield pa.table({"has_vector": embeddings.covered[places], "vector_is_current": embeddings.current[places]})
