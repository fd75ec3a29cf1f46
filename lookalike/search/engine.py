"""SearchEngine: one release answers queries. Parts → vectors → one fused vector → rows → products.

Knows the ports only (index, encoder, picture decoder), so that any index and any encoder can stand behind it. Nothing
changes after construction but caches: requests of many threads share one engine.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lookalike.contracts.encoder import Encoder, Picture, Vectors
from lookalike.contracts.errors import BadQuery, NotFound
from lookalike.contracts.query import MAX_DEPTH, Box, Hit, QueryPart, SearchAnswer, SearchQuery
from lookalike.contracts.sealed_index import Rows, SealedIndex
from lookalike.contracts.settings import IntakeSettings
from lookalike.search.cursor import Cursor, query_hash, start_of
from lookalike.search.facets import count_facets
from lookalike.search.filters import FilterMasks
from lookalike.search.fusion import fuse
from lookalike.search.products import ProductReader
from lookalike.search.ranking import rank

Decode = Callable[[bytes, Box | None], Picture]
ReadPicture = Callable[[str], bytes]
"""From `image_path` to the picture's bytes."""


class SearchEngine:
    """Search over one sealed release. Thread-safe."""

    def __init__(
        self,
        index: SealedIndex,
        encoder: Encoder,
        release: str,
        *,
        decode: Decode,
        limits: IntakeSettings,
        pictures_root: Path | None = None,
        item_picture: ReadPicture | None = None,
    ) -> None:
        """`item_picture` reads an item's picture for a crop of it; without it, files below `pictures_root` are read.

        Raises SpaceMismatch when the encoder is not the one that the index was built with.
        """
        index.manifest.space.require(encoder.space.fingerprint, f"the encoder of release {release}")
        self._index, self._encoder, self._release, self._decode = index, encoder, release, decode
        self._limits, self._root, self._item_picture = limits, pictures_root, item_picture
        self._masks = FilterMasks(index.columns)
        self._products = ProductReader(index.columns)
        self._facets: dict[str, Any] | None = None

    def search(self, query: SearchQuery) -> SearchAnswer:
        """One page of results. Raises BadQuery, CursorExpired, NotFound (an item_id that this release lacks)."""
        began = time.perf_counter()
        start = start_of(query, self._release)
        item_rows = self._item_rows(query)
        parts = self._part_vectors(query, item_rows)
        fused = fuse(parts, [part.weight for part in query.parts])
        encoded = time.perf_counter()
        allowed = self._masks.mask(query.filters)
        filtered = time.perf_counter()
        matching = len(self._products) if allowed is None else int(np.count_nonzero(allowed))
        excluded = np.unique(item_rows[item_rows >= 0]) if query.exclude_query_items else np.empty(0, np.int64)
        end = min(start + query.k, MAX_DEPTH)
        ranked = rank(self._index, fused, parts, allowed, excluded, end + 1, self._products.item_id)
        searched = time.perf_counter()
        hits = tuple(
            Hit(
                item_id=self._products.item_id(int(row)),
                score=float(scores[0]),
                part_scores=tuple(map(float, scores[1:])),
                product=self._products.summary(int(row)),
            )
            for row, scores in zip(ranked.rows[start:end], ranked.scores[start:end], strict=True)
        )
        more = len(ranked.rows) > end and end < MAX_DEPTH
        done = time.perf_counter()
        return SearchAnswer(
            release=self._release,
            hits=hits,
            next_cursor=Cursor(self._release, query_hash(query), end).encode() if more else None,
            plan=ranked.plan,
            matching=matching,
            took_ms=_milliseconds(
                encode=encoded - began,
                filter=filtered - encoded,
                search=searched - filtered,
                enrich=done - searched,
                total=done - began,
            ),
        )

    def item(self, item_id: str) -> dict[str, Any]:
        """All columns of an item as plain Python. Raises NotFound."""
        return self._products.product(self._row_of(item_id))

    def facets(self) -> dict[str, Any]:
        """Values to filter by with counts, and ranges of numbers, over the whole release. Counted once."""
        if self._facets is None:
            self._facets = count_facets(self._index.columns, self._masks.attribute_names())
        return self._facets

    def _row_of(self, item_id: str) -> int:
        row = int(self._index.rows_of([item_id])[0])
        if row < 0:
            raise NotFound(f"no item {item_id!r} in release {self._release}")
        return row

    def _item_rows(self, query: SearchQuery) -> Rows:
        """Row of each part's item, -1 for parts that are none, shape (len(parts),)."""
        return np.array(
            [-1 if part.item_id is None else self._row_of(part.item_id) for part in query.parts], dtype=np.int64
        )

    def _part_vectors(self, query: SearchQuery, item_rows: Rows) -> Vectors:
        """Unit vector of each part, shape (len(parts), dim): one batch of texts, one of pictures, one of rows."""
        parts = query.parts
        texts = [at for at, part in enumerate(parts) if part.text is not None]
        stored = [at for at, part in enumerate(parts) if part.item_id is not None and part.crop is None]
        pictures = [at for at in range(len(parts)) if at not in texts and at not in stored]
        vectors = np.empty((len(parts), self._encoder.space.dim), dtype=np.float32)
        if stored:
            vectors[stored] = self._index.vectors(item_rows[stored])
        if texts:
            vectors[texts] = self._encoder.encode_texts([parts[at].text or "" for at in texts])
        if pictures:
            decoded = [self._decode(self._bytes_of(at, parts[at], item_rows[at]), parts[at].crop) for at in pictures]
            vectors[pictures] = self._encoder.encode_pictures(decoded)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def _bytes_of(self, at: int, part: QueryPart, row: int) -> bytes:
        if part.picture is not None:
            return part.picture
        image_path = self._index.columns["image_path"][int(row)].as_py()
        try:
            return self._item_picture(image_path) if self._item_picture else self._stored_picture(image_path)
        except OSError as error:
            raise BadQuery(
                f"part {at}: the picture of item {part.item_id!r} cannot be read now, so no crop of it can be taken "
                f"({error.strerror or type(error).__name__}); leave the crop out or upload the picture"
            ) from error

    def _stored_picture(self, image_path: str) -> bytes:
        """A picture of the store; one that lies elsewhere is not fetched on a query's behalf."""
        if self._root is None:
            raise FileNotFoundError(2, "no picture store")
        root = self._root.resolve()
        path = (root / image_path).resolve()
        if "://" in image_path or not path.is_relative_to(root):
            raise FileNotFoundError(2, "it is not in the picture store")
        if path.stat().st_size > self._limits.max_picture_bytes:
            raise FileNotFoundError(2, f"it has more than {self._limits.max_picture_bytes:,} bytes")
        return path.read_bytes()


def _milliseconds(**seconds: float) -> dict[str, float]:
    return {stage: round(value * 1000, 3) for stage, value in seconds.items()}
