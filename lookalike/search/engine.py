"""SearchEngine: one release answers queries. Parts → vectors → one fused vector → rows → products.

Knows the ports only (index, encoder, picture decoder), so that any index and any encoder can stand behind it. Nothing
changes after construction but caches and the overlay, of which each query takes one immutable view: requests of many
threads share one engine.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lookalike.contracts.encoder import Encoder, Picture, Vectors
from lookalike.contracts.errors import BadQuery, CursorExpired, NotFound
from lookalike.contracts.query import MAX_DEPTH, Box, Hit, QueryPart, SearchAnswer, SearchQuery
from lookalike.contracts.sealed_index import Rows, SealedIndex
from lookalike.contracts.settings import IntakeSettings
from lookalike.search.changed_items import OverlayView
from lookalike.search.cursor import Cursor, FirstSeen, Last, cursor_of, query_hash
from lookalike.search.facets import ATTRIBUTES, SealedFacets
from lookalike.search.filters import FilterRows
from lookalike.search.fusion import fuse
from lookalike.search.merged import Merged
from lookalike.search.overlay import Overlay
from lookalike.search.products import ProductReader
from lookalike.search.ranking import Ranked, rank

Decode = Callable[[bytes, Box | None], Picture]
ReadPicture = Callable[[str], bytes]
"""From `image_path` to the picture's bytes."""


class SearchEngine:
    """Search over one sealed release and what changed since. Thread-safe."""

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
        overlay: Overlay | None = None,
    ) -> None:
        """`item_picture` reads an item's picture for a crop of it; without it, files below `pictures_root` are read.

        With an `overlay` of this index, answers hold what it holds at that moment.

        Raises SpaceMismatch when the encoder is not the one that the index was built with.
        """
        index.manifest.space.require(encoder.space.fingerprint, f"the encoder of release {release}")
        self._index, self._encoder, self._release, self._decode = index, encoder, release, decode
        self._limits, self._root, self._item_picture = limits, pictures_root, item_picture
        self._filters = FilterRows(index.columns, index.sets)
        self._products = ProductReader(index.columns)
        self._facets: SealedFacets | None = None
        self._overlay = overlay

    def search(self, query: SearchQuery) -> SearchAnswer:
        """One page of results. Raises BadQuery, CursorExpired, NotFound (an item_id that this release lacks)."""
        began = time.perf_counter()
        cursor = cursor_of(query, self._release)
        view = None if self._overlay is None else self._overlay.view()
        first = None if view is None else _first_seen(cursor, view)
        merged = self._merged(view, first)
        item_rows = self._item_rows(query, merged)
        parts = self._part_vectors(query, item_rows, merged)
        fused = fuse(parts, [part.weight for part in query.parts])
        encoded = time.perf_counter()
        allowed = merged.allowed(query.filters)
        filtered = time.perf_counter()
        excluded = np.unique(item_rows[item_rows >= 0]) if query.exclude_query_items else np.empty(0, np.int64)
        find = partial(rank, merged, fused, parts, allowed, excluded)
        ranked, start, end = _page(find, cursor, query.k)
        searched = time.perf_counter()
        hits = _hits(merged, ranked, start, end)
        next_cursor = None
        if len(ranked.rows) > end and end < MAX_DEPTH:
            last = None if first is None else Last(hits[-1].score, hits[-1].item_id)
            next_cursor = Cursor(self._release, query_hash(query), end, last, first).encode()
        done = time.perf_counter()
        return SearchAnswer(
            release=self._release,
            hits=hits,
            next_cursor=next_cursor,
            plan=ranked.plan,
            matching=merged.items if allowed is None else allowed.count,
            fresh=sum(merged.is_fresh(int(row)) for row in ranked.rows[start:end]),
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
        merged = self._merged(None if self._overlay is None else self._overlay.view())
        return merged.product(self._row_of(item_id, merged))

    def facets(self) -> dict[str, Any]:
        """Values to filter by with counts, and ranges of numbers, over all that can be found.

        The release knows its own, or is counted once. Changes since correct the counts; ranges they only widen.
        """
        if self._facets is None:
            self._facets = SealedFacets(self._index.columns, self._index.sets)
        return self._facets.facets(None if self._overlay is None else self._overlay.facet_changes)

    def _merged(self, view: OverlayView | None, first: FirstSeen | None = None) -> Merged:
        return Merged(
            self._index,
            self._filters,
            self._products,
            view,
            self._has_attribute,
            None if first is None else first.commit,
        )

    def _has_attribute(self, name: str) -> bool:
        return self._overlay is not None and self._overlay.facet_changes.counts.get((ATTRIBUTES, name), 0) > 0

    def _row_of(self, item_id: str, merged: Merged) -> int:
        row = merged.row_of(item_id)
        if row < 0:
            raise NotFound(f"no item {item_id!r} in release {self._release}")
        return row

    def _item_rows(self, query: SearchQuery, merged: Merged) -> Rows:
        """Row of each part's item, -1 for parts that are none, shape (len(parts),)."""
        rows = [-1 if part.item_id is None else self._row_of(part.item_id, merged) for part in query.parts]
        for part, row in zip(query.parts, rows, strict=True):
            if merged.came_later(row):
                raise CursorExpired(
                    f"item {part.item_id!r} of the query has got a new picture since the first page; start again "
                    f"without a cursor"
                )
        return np.array(rows, dtype=np.int64)

    def _part_vectors(self, query: SearchQuery, item_rows: Rows, merged: Merged) -> Vectors:
        """Unit vector of each part, shape (len(parts), dim): one batch of texts, one of pictures, one of rows."""
        parts = query.parts
        texts = [at for at, part in enumerate(parts) if part.text is not None]
        stored = [at for at, part in enumerate(parts) if part.item_id is not None and part.crop is None]
        pictures = [at for at in range(len(parts)) if at not in texts and at not in stored]
        vectors = np.empty((len(parts), self._encoder.space.dim), dtype=np.float32)
        if stored:
            vectors[stored] = merged.vectors(item_rows[stored])
        if texts:
            vectors[texts] = self._encoder.encode_texts([parts[at].text or "" for at in texts])
        if pictures:
            data = [self._bytes_of(at, parts[at], int(item_rows[at]), merged) for at in pictures]
            decoded = [self._decode(each, parts[at].crop) for each, at in zip(data, pictures, strict=True)]
            vectors[pictures] = self._encoder.encode_pictures(decoded)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def _bytes_of(self, at: int, part: QueryPart, row: int, merged: Merged) -> bytes:
        if part.picture is not None:
            return part.picture
        image_path = merged.image_path(row)
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


def _first_seen(cursor: Cursor | None, view: OverlayView) -> FirstSeen:
    """What the first page had seen. A cursor that another process gave says nothing here: then this page is first."""
    if cursor is not None and cursor.first is not None and cursor.first.overlay == view.overlay_id:
        return cursor.first
    return FirstSeen(view.overlay_id, view.commit)


def _page(find: Callable[[int], Ranked], cursor: Cursor | None, k: int) -> tuple[Ranked, int, int]:
    """The ranking, as deep as the page needs, and where in it the page begins and ends."""
    start = given = 0 if cursor is None else cursor.depth
    while True:
        end = min(start + k, MAX_DEPTH)
        ranked = find(end + 1)
        if cursor is not None and cursor.last is not None:
            start = ranked.after(cursor.last, given)
        if min(start + k, MAX_DEPTH) <= end or len(ranked.rows) <= end:
            return ranked, start, min(start + k, MAX_DEPTH)


def _hits(merged: Merged, ranked: Ranked, start: int, end: int) -> tuple[Hit, ...]:
    return tuple(
        Hit(
            item_id=ranked.ids[at],
            score=float(ranked.scores[at, 0]),
            part_scores=tuple(map(float, ranked.scores[at, 1:])),
            product=merged.summary(int(ranked.rows[at])),
        )
        for at in range(start, min(end, len(ranked.rows)))
    )


def _milliseconds(**seconds: float) -> dict[str, float]:
    return {stage: round(value * 1000, 3) for stage, value in seconds.items()}
