"""Known vectors: an embedding is made once per picture and space, so a picture seen before is looked up, not encoded.

The stream's own store is asked first, then EMBEDDINGS, which holds vectors to the bit (an index does not). A table of
many million rows cannot be asked for every new picture: a sorted array of the hashes' first 64 bits, 8 bytes per
picture, says at once that it has never been seen.
"""

import logging
import threading
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from beam.elements import Vector
from beam.state_store import StateStore
from lookalike.contracts.tables import EMBEDDINGS
from lookalike.storage.delta import DeltaTables

LOG = logging.getLogger("lookalike.stream")
_PREFIX_DIGITS = 16


class KnownVectors:
    """Thread-safe. Vectors of pictures by content hash, in one or more spaces."""

    def __init__(self, store: StateStore, tables: DeltaTables) -> None:
        self._store, self._tables = store, tables
        self._lock = threading.Lock()
        self._prefixes: dict[str, NDArray[np.uint64]] = {}

    def find(self, content_hash: str, spaces: Iterable[str]) -> dict[str, Vector]:
        """Vectors of those of the spaces in which the picture has one."""
        wanted = list(spaces)
        published = self._store.vectors_of(content_hash) if wanted else {}
        found = {space: published[space] for space in wanted if space in published}
        for space in wanted:
            if space not in found:
                vector = self._embedded(content_hash, space)
                if vector is not None:
                    found[space] = vector
        return found

    def load(self, spaces: Iterable[str]) -> None:
        """Read which pictures EMBEDDINGS has, for spaces of which that is not known yet."""
        for space in spaces:
            self._known_prefixes(space)

    def _embedded(self, content_hash: str, space: str) -> Vector | None:
        prefixes = self._known_prefixes(space)
        prefix = np.uint64(int(content_hash[:_PREFIX_DIGITS], 16))
        at = int(np.searchsorted(prefixes, prefix))
        if at == len(prefixes) or prefixes[at] != prefix:
            return None
        where = f"space = '{space}' AND content_hash = '{content_hash}'"
        try:
            for batch in self._tables.batches(EMBEDDINGS, columns=["vector"], where=where):
                if batch.num_rows:
                    return np.asarray(batch["vector"][0].values, dtype=np.float32)
        except Exception as error:  # encoding again gives the same vector, only later
            LOG.error("embeddings cannot be read, the picture is encoded again: %s", error)
        return None

    def _known_prefixes(self, space: str) -> NDArray[np.uint64]:
        with self._lock:
            if space not in self._prefixes:
                self._prefixes[space] = self._load(space)
                LOG.info("embeddings has %d pictures in space %s", len(self._prefixes[space]), space)
            return self._prefixes[space]

    def _load(self, space: str) -> NDArray[np.uint64]:
        if not self._tables.exists(EMBEDDINGS.name):
            return np.empty(0, np.uint64)
        batches = self._tables.batches(EMBEDDINGS, columns=["content_hash"], where=f"space = '{space}'")
        parts = [
            np.fromiter((int(text[:_PREFIX_DIGITS], 16) for text in batch["content_hash"].to_pylist()), np.uint64)
            for batch in batches
        ]
        return np.unique(np.concatenate([np.empty(0, np.uint64), *parts]))
