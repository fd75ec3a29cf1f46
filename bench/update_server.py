"""The server of `updates.py`: an index with overlay, follower and engine as `lookalike serve` puts them together.

Without HTTP, and the encoder is replaced by stored vectors, so that what changes cost a search weighs the more.
"""

import itertools
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from index_builder.reader import open_index
from lookalike.contracts.encoder import Vectors
from lookalike.contracts.query import Filter, QueryPart, SearchAnswer, SearchQuery
from lookalike.contracts.settings import load_settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.search.overlay import Overlay
from lookalike.serving import garbage
from lookalike.serving.answers import answer_json
from lookalike.serving.metrics import Metrics
from lookalike.serving.overlay_follower import OverlayFollower
from lookalike.serving.release import search_engine
from lookalike.serving.right_of_way import RightOfWay
from lookalike.storage.log.opening import open_log

K = 10
DRAIN_SECONDS, DRAIN_STEP_SECONDS = 600.0, 0.01
FILTERS = (
    (Filter(field="stock", at_least=1),),
    (Filter(field="price", at_least=10, at_most=40),),
    (Filter(field="brand", any_of=("brand 2",)),),
    (Filter(field="brand", any_of=("brand 1", "brand 3")), Filter(field="stock", at_least=2)),
    (Filter(field="brand", any_of=("brand 40",)),),
)
"""Of some 95, 50, 8, 18 and 0.2 of a hundred items; prices and stocks are what most changes change."""


class StoredVectors:
    """Stands where the encoder does: `pictures 7` is the vector of this name and number."""

    def __init__(self, space: EmbeddingSpace, vectors: Mapping[str, Vectors]) -> None:
        self.space, self._vectors = space, vectors

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Those named."""
        named = (text.split() for text in texts)
        return np.stack([self._vectors[kind][int(number)] for kind, number in named])


class Served:
    """An index served as `lookalike serve` does, without HTTP; it follows the log of `home`."""

    def __init__(self, index: Path, home: Path, queries: Mapping[str, Vectors]) -> None:
        """`queries`: by name, shape (n, dim)."""
        settings = load_settings(home=home)
        self.index, self.metrics, self._running = open_index(index, verify=False), Metrics(), set[int]()
        space = self.index.manifest.space
        self.overlay = Overlay(self.index, space.fingerprint, settings.serving.overlay_bytes)
        self._log, way = open_log(settings), RightOfWay(lambda: bool(self._running))
        self.following = OverlayFollower(self._log, self.overlay, {}, self.metrics, settings, way)
        self.following.replay()
        self.vectors = dict(queries)
        self.encoder = StoredVectors(space, self.vectors)
        self.engine = search_engine(self.index, self.encoder, "bench", settings, self.overlay)  # type: ignore[arg-type]
        garbage.keep()
        self.following.start()

    def search(self, query: SearchQuery) -> SearchAnswer:
        """As a search thread of the server does, down to the bytes of the answer."""
        self._running.add(threading.get_ident())
        try:
            answer = self.engine.search(query)
            self.metrics.search(answer.took_ms)
            answer_json(answer)
            return answer
        finally:
            self._running.discard(threading.get_ident())

    def wait_for(self, last: Mapping[int, int]) -> float:
        """Seconds until everything up to these origins is visible. Raises TimeoutError."""
        began = time.monotonic()
        while self.following.offsets.missing(last):
            if time.monotonic() - began > DRAIN_SECONDS:
                raise TimeoutError(f"not visible: {self.following.offsets.missing(last)}; {self.following.status()}")
            time.sleep(DRAIN_STEP_SECONDS)
        return time.monotonic() - began

    def queries(self, k: int = K) -> Iterator[SearchQuery]:
        """Pictures and texts in turn, two without and two with a filter, without end."""
        filters = itertools.chain.from_iterable(((), (), each, each) for each in itertools.cycle(FILTERS))
        for at, chosen in enumerate(filters):
            name = ("pictures", "texts")[at % 2]
            yield SearchQuery(
                parts=(QueryPart(text=f"{name} {at // 2 % len(self.vectors[name])}"),), filters=chosen, k=k
            )

    def close(self) -> None:
        """Follow no more."""
        self.following.stop()
        self.following.join()
        self._log.close()
