"""What every engine gets: stored vectors with their queries, or as many as wanted of a generator, which lie nowhere.

Generated ones are made again for each build and come to it through a pipe, block by block; an engine that takes one
file gets them in half precision.
"""

import json
import math
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from truth import Truth, Vectors, digest, load_unit, read_or_find

SAMPLED = 100_000
"""Generated vectors that an engine may look at before they come."""
SAMPLE_BLOCKS = 8


@dataclass(frozen=True)
class Inputs:
    """`file`: of stored vectors; `mixture`: of the generator. `sha256`: of all that results depend on."""

    rows: int
    dim: int
    file: Path | None
    mixture: Path | None
    query_paths: dict[str, Path]
    truth: dict[str, Truth]
    sha256: str
    folder: Path

    @classmethod
    def stored(cls, vectors: Path, queries: list[Path], truth: Path | None, folder: Path) -> "Inputs":
        """Read and check the files, and find the truth. Raises SystemExit for a file that does not fit."""
        by_kind = {path.stem.removeprefix("query_"): path.resolve() for path in queries}
        sha256 = digest([vectors, *by_kind.values()])
        mapped = load_unit(vectors)
        read = {kind: np.asarray(load_unit(path), np.float32) for kind, path in by_kind.items()}
        for kind, these in read.items():
            if these.shape[1] != mapped.shape[1]:
                raise SystemExit(f"{by_kind[kind]} has {these.shape[1]} dimensions, {vectors} has {mapped.shape[1]}")
        print(
            f"{len(mapped):,} vectors of {mapped.shape[1]} dimensions; finding the truth, unless it is known",
            flush=True,
        )
        found = read_or_find(truth or folder / "truth" / f"{sha256[:16]}.npz", lambda: [mapped], read, sha256)
        return cls(*mapped.shape, vectors.resolve(), None, by_kind, found, sha256, folder)

    @classmethod
    def generated(cls, mixture: Path, items: int, truth: Path | None, folder: Path) -> "Inputs":
        """The first `items` of the generator, and its queries."""
        vectors, sha256 = _generator(mixture, items), f"{digest([mixture])[:48]}{items:016d}"
        beside = (folder / "generated" / f"{sha256[:16]}-{items}").resolve()
        paths = {kind: beside / f"query_{kind}.npy" for kind in ("pictures", "texts")}
        if not all(path.exists() for path in (*paths.values(), beside / "sample.npy")):
            beside.mkdir(parents=True, exist_ok=True)
            queries = vectors.queries()
            for kind, path in paths.items():
                np.save(path, getattr(queries, kind))
            np.save(beside / "sample.npy", _sample(vectors))
        read = {kind: np.load(path) for kind, path in paths.items()}
        print(
            f"{items:,} generated vectors of {vectors.dim} dimensions; finding the truth, unless it is known",
            flush=True,
        )
        kept = truth or folder / "truth" / f"{sha256[:16]}-{items}.npz"
        found = read_or_find(kept, lambda: _blocks(vectors), read, sha256)
        return cls(items, vectors.dim, None, mixture.resolve(), paths, found, sha256, beside)

    @property
    def name(self) -> str:
        """Of the folder of its indexes."""
        return self.sha256[:16] if self.file else self.folder.name

    def facts(self) -> dict[str, Any]:
        """For the result."""
        kinds = {kind: len(truth) for kind, truth in self.truth.items()}
        made = {"generated": str(self.mixture.name)} if self.mixture else {}
        return {"sha256": self.sha256, "vectors": self.rows, "dim": self.dim, "queries": kinds, **made}

    @contextmanager
    def handed_over(self, how: str) -> Iterator[tuple[dict[str, Any], tuple[int, ...]]]:
        """For one build, what its worker is told of the vectors and the file descriptors that it needs.

        `how` generated vectors come: by "pipe", in one "file", or made by the engine's own "generator".
        """
        told: dict[str, Any] = {"rows": self.rows, "dim": self.dim}
        if self.mixture is None:
            yield told | {"file": str(self.file)}, ()
        elif how == "generator":
            yield told | {"mixture": str(self.mixture)}, ()
        elif how == "file":
            yield told | {"file": str(self._written())}, ()
        else:
            reads, writes = os.pipe()
            threading.Thread(target=self._feed, args=(writes,), daemon=True).start()
            try:
                yield told | {"pipe": reads, "sample": str((self.folder / "sample.npy").resolve())}, (reads,)
            finally:
                os.close(reads)  # and with the worker's own gone, the thread ends

    def forget_file(self) -> None:
        """Remove what was written for engines that take one file."""
        if self.mixture is not None:
            (self.folder / "half.npy").unlink(missing_ok=True)

    def _feed(self, pipe: int) -> None:
        assert self.mixture is not None
        with suppress(BrokenPipeError), os.fdopen(pipe, "wb", buffering=0) as file:
            for block in _blocks(_generator(self.mixture, self.rows)):
                left = memoryview(np.ascontiguousarray(block)).cast("B")
                while len(left):
                    left = left[file.write(left) :]

    def _written(self) -> Path:
        """All generated vectors in half precision."""
        assert self.mixture is not None
        path = self.folder / "half.npy"
        if not path.exists():
            beside = path.with_name(".half.npy.writing")
            mapped = np.lib.format.open_memmap(beside, "w+", np.float16, (self.rows, self.dim))
            first = 0
            for block in _blocks(_generator(self.mixture, self.rows)):
                mapped[first : first + len(block)] = block
                first += len(block)
            mapped.flush()
            beside.replace(path)
        return path.resolve()


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Whole or not at all."""
    beside = path.with_name(f".{path.name}.writing")
    beside.write_text(json.dumps(value, indent=1))
    beside.replace(path)


def _generator(mixture: Path, items: int) -> Any:
    beside = str(Path(__file__).parents[1])
    if beside not in sys.path:
        sys.path.append(beside)  # behind all packages: the bench's own modules
    from numbered_source import GeneratedVectors

    return GeneratedVectors(mixture, items)


def _blocks(vectors: Any) -> Iterator[Vectors]:
    from mixture import BLOCK_ROWS

    return (vectors.block(number) for number in range(math.ceil(vectors.items / BLOCK_ROWS)))


def _sample(vectors: Any) -> Vectors:
    """Of some blocks at even distances."""
    from mixture import BLOCK_ROWS

    blocks = math.ceil(vectors.items / BLOCK_ROWS)
    numbers = sorted({at * blocks // SAMPLE_BLOCKS for at in range(SAMPLE_BLOCKS)})
    each = SAMPLED // len(numbers)
    return np.concatenate([vectors.block(number)[:each] for number in numbers])
