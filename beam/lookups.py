"""Lookups: what a change needs that cannot be had at once, a picture or an item of SILVER, found on other threads.

Two bounded pools. The first serves a bundle, which waits for it a moment; the second takes what was too slow, has the
whole time-out, and keeps its results until the parked change comes round and asks. So a picture that hangs costs its
own change time, and nobody else's. A picture's bytes live only while it is read and checked on one of the threads;
what is kept are the encoders' small inputs.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait

from beam.background import DaemonPool
from beam.base_items import live_item, silver_item
from beam.elements import SeenPicture, SilverItem, Vector
from beam.known_vectors import KnownVectors
from beam.releases import ReleaseFollower
from beam.state_store import StateStore
from lookalike.catalogue.intake import decode_picture, inspect_picture, read_picture
from lookalike.contracts.change import CatalogueEvent, Position
from lookalike.contracts.product import Refusal, RefusalReason
from lookalike.contracts.settings import Settings
from lookalike.storage.delta import DeltaTables

LOG = logging.getLogger("lookalike.stream")
Found = SeenPicture | SilverItem | Refusal
WAITING_PER_THREAD = 16
"""Lookups aside that may be begun or kept, per thread of their pool; a change above that comes round again."""


class Finder:
    """The lookups themselves. Thread-safe."""

    def __init__(
        self, settings: Settings, store: StateStore, known: KnownVectors, releases: ReleaseFollower, tables: DeltaTables
    ) -> None:
        self._settings, self._store, self._known = settings, store, known
        self._releases, self._tables = releases, tables
        self._decoding = threading.Semaphore(settings.embed.decode_threads)  # a decoded picture may have 200 MB

    def picture(self, event: CatalogueEvent, timeout: float) -> SeenPicture | Refusal:
        """The upsert's picture, fetched within `timeout` seconds, checked, and prepared where it has to be encoded."""
        if event.product is None:
            raise ValueError(f"{event.kind} of {event.item_id} has no picture")
        path, limits = event.product.image_path, self._settings.intake
        data = read_picture(path, self._settings.pictures_root, limits, tries=1, timeout=timeout)
        if isinstance(data, Refusal):
            return Refusal(data.reason, data.detail, event.item_id)
        with self._decoding:
            seen = self._seen(event.item_id, data)
        return Refusal(seen.reason, f"{path}: {seen.detail}", event.item_id) if isinstance(seen, Refusal) else seen

    def item(self, item_id: str) -> SilverItem:
        """What SILVER and EMBEDDINGS have of the item."""
        state = silver_item(self._tables, self._settings.tables.shards, item_id)
        content_hash = state.content_hash if state is not None else None
        vectors = self._known.find(content_hash, self._releases.now.encoders) if content_hash else {}
        return SilverItem(state, vectors)

    def _seen(self, item_id: str, data: bytes) -> SeenPicture | Refusal:
        info = inspect_picture(data, self._settings.intake)
        if isinstance(info, Refusal):
            return info
        now = self._releases.now
        stored = self._store.get(item_id)
        vectors: dict[str, Vector] = {}
        if stored is not None and stored.content_hash == info.content_hash:
            vectors = {space: vector for space, vector in stored.update.vectors.items() if space in now.encoders}
        if not vectors:
            live = live_item(now.items, item_id)
            if live is not None and live.content_hash == info.content_hash:
                return SeenPicture(info)  # the release has the vector; EMBEDDINGS is filled by the re-embedding
        missing = [space for space in now.encoders if space not in vectors]
        vectors |= self._known.find(info.content_hash, missing)
        missing = [space for space in missing if space not in vectors]
        if not missing:
            return SeenPicture(info, vectors)
        try:
            picture = decode_picture(data)
            prepared = {space: now.encoders[space].prepare(picture) for space in missing}
        except Exception as error:  # whatever an image library raises, one picture must not end the job
            return Refusal(RefusalReason.PICTURE_UNREADABLE, f"it cannot be prepared: {type(error).__name__}: {error}")
        return SeenPicture(info, vectors, prepared)


class Lookups:
    """Runs a Finder's lookups on its threads. Thread-safe."""

    def __init__(self, finder: Finder, settings: Settings) -> None:
        self._finder, self._seconds = finder, settings.stream.first_fetch_seconds
        self._timeout = settings.intake.fetch_timeout_seconds
        threads = settings.stream.fetch_threads
        self._most_aside = WAITING_PER_THREAD * threads
        self._first, self._second = DaemonPool(threads, "picture"), DaemonPool(threads, "slow-picture")
        self._lock = threading.Lock()
        self._aside: dict[Position, Future[Found]] = {}

    def begin(self, event: CatalogueEvent) -> "Future[SeenPicture | Refusal]":
        """Begin to fetch a picture for which the bundle will wait."""
        return self._first.submit(lambda: self._finder.picture(event, self._seconds))

    def finish(self, begun: "Iterable[Future[SeenPicture | Refusal]]", until: float) -> None:
        """Wait for pictures up to `until` seconds; those that have not begun by then are not fetched any more."""
        for future in wait(list(begun), timeout=max(0.0, until)).not_done:
            future.cancel()

    def picture_aside(self, at: Position, event: CatalogueEvent) -> "Found | None":
        """Result of the full fetch for the change that lies `at`, or None while it is under way (or begun now)."""
        return self._look_aside(at, lambda: self._finder.picture(event, self._timeout))

    def item_aside(self, at: Position, item_id: str) -> "Found | None":
        """Result of the search in SILVER, likewise."""
        return self._look_aside(at, lambda: self._finder.item(item_id))

    def forget(self, at: Position) -> None:
        """The change that lies `at` needs nothing any more."""
        with self._lock:
            future = self._aside.pop(at, None)
        if future is not None:
            future.cancel()

    def close(self) -> None:
        """Let the threads end."""
        with self._lock:
            for future in self._aside.values():
                future.cancel()
        self._first.close()
        self._second.close()

    def _look_aside(self, at: Position, look: Callable[[], Found]) -> Found | None:
        with self._lock:
            future = self._aside.get(at)
            if future is None:
                if len(self._aside) < self._most_aside:
                    self._aside[at] = self._second.submit(look)
                return None
            if not future.done():
                return None
            del self._aside[at]
        if (error := future.exception()) is not None:
            LOG.error("a lookup for change %s failed, it is tried again: %s", at, error, exc_info=error)
            return None
        return future.result()
