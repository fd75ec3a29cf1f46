"""SVG documents to PNG files in the picture store, in a few worker processes; what was rendered before is reused.

resvg keeps Python's lock while it draws, so threads would not help. A line of the list of rendered documents
(sha256 of the SVG, path of the PNG) is written after its picture: a killed run loses only what was in flight.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from importlib.metadata import version
from pathlib import Path
from typing import Self

from lookalike.catalogue.pictures import store_picture
from lookalike.catalogue.workers import worker_count, worker_pool
from lookalike.contracts.progress import Step

LOG = logging.getLogger(__name__)
_CHUNK = 64


class Renderer:
    """Renders into one picture store. Use as a context manager: the worker processes end with it."""

    def __init__(self, pictures_root: Path, workers: int = 0) -> None:
        self._root = pictures_root
        self._workers = workers or worker_count()
        # Another version of resvg may draw other pixels: its documents count as not rendered.
        self._list = pictures_root / f"rendered-by-resvg-{version('resvg-py')}.tsv"
        self._known: dict[str, str] = {}
        self._pool: Executor | None = None
        self.rendered = 0
        self.failed = 0

    def __enter__(self) -> Self:
        self._root.mkdir(parents=True, exist_ok=True)
        if self._list.is_file():
            lines = (line.split("\t") for line in self._list.read_text().splitlines())
            self._known = {pair[0]: pair[1] for pair in lines if len(pair) == 2 and pair[1].endswith(".png")}
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def render(self, documents: Sequence[str], step: Step) -> list[str | None]:
        """Paths below the store, one per SVG document, None where resvg cannot draw it (logged and counted)."""
        keys = [hashlib.sha256(document.encode()).hexdigest() for document in documents]
        missing = {key: document for key, document in zip(keys, documents, strict=True) if not self._has(key)}
        step.advance(len(documents) - len(missing))
        items = list(missing.items())
        chunks = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
        with self._list.open("a") as listed:
            for results in self._draw(chunks):
                for key, path, problem in results:
                    if path is None:
                        self.failed += 1
                        LOG.warning("a drawing was left out, resvg cannot render it: %s", problem)
                        continue
                    self._known[key] = path
                    listed.write(f"{key}\t{path}\n")
                    self.rendered += 1
                listed.flush()
                step.advance(len(results))
        return [self._known.get(key) for key in keys]

    def _has(self, key: str) -> bool:
        path = self._known.get(key)
        return path is not None and (self._root / path).is_file()

    def _draw(self, chunks: list[list[tuple[str, str]]]) -> Iterator[list[tuple[str, str | None, str]]]:
        # Starting worker processes costs more than drawing a few chunks here.
        if len(chunks) < 4 or self._workers == 1:
            yield from (_draw_chunk(self._root, chunk) for chunk in chunks)
            return
        if self._pool is None:
            self._pool = worker_pool(self._workers)
        yield from self._pool.map(_draw_chunk, [self._root] * len(chunks), chunks)


def render_svg(document: str) -> bytes:
    """One SVG document as PNG bytes of its own size. Raises ValueError when it cannot be drawn."""
    import resvg_py

    return bytes(resvg_py.svg_to_bytes(svg_string=document, skip_system_fonts=True))


def _draw_chunk(root: Path, chunk: list[tuple[str, str]]) -> list[tuple[str, str | None, str]]:
    results: list[tuple[str, str | None, str]] = []
    for key, document in chunk:
        try:
            results.append((key, store_picture(root, render_svg(document), ".png"), ""))
        except ValueError as error:
            results.append((key, None, f"{error} in {document[:200]}"))
    return results
