"""A source of a build that reads no tables: item i is number i, its vector stored in a file or made by a generator.

A hundred million vectors of 512 dimensions are 205 GB as tables; made block by block they never lie anywhere. The exact
nearest of the benchmark's own queries are found on the way, for a second pass would take as long as the first.
"""

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from mixture import BLOCK_ROWS, Mixture
from numpy.typing import NDArray

from index_builder.delta_source import LEFT_OUT
from index_builder.source import Block, Coverage, Sample, Shard
from index_builder.truth import best, improve
from lookalike.contracts.encoder import Vectors
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.progress import Progress
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import SILVER
from lookalike.storage.atomic import write_bytes

DIGITS = 12
BRANDS, CATEGORIES = 1_000, 64
QUERIES_NAME, TRUTH = "queries.npz", "truth"
TRUE = 100
"""Nearest rows kept for each query."""
ITEM_BYTES = 400.0
QUERIES, QUERY_BLOCKS = 500, 128
EXTRA_ROWS = 1_024
"""Of blocks that hold no items and are drawn for their queries only."""


@dataclass(frozen=True)
class Queries:
    """At most QUERIES of each kind whose truth is wanted, and OTHERS, pictures and texts in turn."""

    pictures: Vectors
    texts: Vectors
    others: Vectors

    @classmethod
    def of(cls, pictures: Vectors, texts: Vectors) -> "Queries":
        """Of pictures and their texts, row by row."""
        others = np.stack([pictures[QUERIES:], texts[QUERIES:]], axis=1).reshape(-1, pictures.shape[1])
        return cls(pictures[:QUERIES], texts[:QUERIES], others)

    def save(self, path: Path) -> None:
        """As an .npz file."""
        np.savez(path, pictures=self.pictures, texts=self.texts, others=self.others)


class NumberedVectors(Protocol):
    """`items` vectors of `dim` dimensions, in blocks of BLOCK_ROWS; queries are no items."""

    @property
    def items(self) -> int: ...

    @property
    def dim(self) -> int: ...

    @property
    def name(self) -> str:
        """What the vectors depend on."""
        ...

    def block(self, number: int) -> Vectors: ...

    def texts(self, rows: NDArray[np.int64]) -> Vectors:
        """Of these items, ascending."""
        ...

    def queries(self) -> "Queries":
        """None of them is an item."""
        ...


@dataclass(frozen=True)
class StoredVectors:
    """What `bench/real_vectors.py` wrote to `folder`: the first `items` of it."""

    folder: Path
    items: int

    @property
    def dim(self) -> int:
        return int(self._items.shape[1])

    @property
    def name(self) -> str:
        return str(self.folder)

    def block(self, number: int) -> Vectors:
        return np.array(self._items[number * BLOCK_ROWS : min((number + 1) * BLOCK_ROWS, self.items)])

    def texts(self, rows: NDArray[np.int64]) -> Vectors:
        return np.array(np.load(self.folder / "item_texts.npy", mmap_mode="r")[rows])

    def queries(self) -> Queries:
        pictures, texts = (np.load(self.folder / f"query_{kind}.npy") for kind in ("pictures", "texts"))
        order = np.random.default_rng(5).permutation(len(pictures))
        return Queries.of(pictures[order], texts[order])

    @property
    def _items(self) -> Vectors:
        return np.load(self.folder / "items.npy", mmap_mode="r")  # type: ignore[no-any-return]


@dataclass(frozen=True)
class GeneratedVectors:
    """The first `items` vectors of the mixture in `file`."""

    file: Path
    items: int
    seed: int = 1

    @property
    def dim(self) -> int:
        return _mixture(self.file).dim

    @property
    def name(self) -> str:
        return f"{self.file}:{self.seed}"

    def block(self, number: int) -> Vectors:
        rows = min(BLOCK_ROWS, self.items - number * BLOCK_ROWS)
        return _mixture(self.file).block(self.seed, number)[:rows]

    def texts(self, rows: NDArray[np.int64]) -> Vectors:
        mixture, found = _mixture(self.file), []
        for number in np.unique(rows // BLOCK_ROWS).tolist():
            here = rows[rows // BLOCK_ROWS == number] - number * BLOCK_ROWS
            found.append(mixture.texts(self.seed, number, self.block(number)[here]))
        return np.concatenate(found)

    def queries(self) -> Queries:
        mixture, blocks = _mixture(self.file), math.ceil(self.items / BLOCK_ROWS)
        chosen = sorted({number * blocks // QUERY_BLOCKS for number in range(QUERY_BLOCKS)})
        beyond = range(blocks, blocks + QUERY_BLOCKS - len(chosen))  # where there are few blocks, for the others
        pictures = np.concatenate(
            [mixture.held_out(self.seed, number) for number in chosen]
            + [mixture.held_out(self.seed, number, EXTRA_ROWS) for number in beyond]
        )
        return Queries.of(pictures, mixture.texts(self.seed, blocks, pictures))


_kept: dict[Path, Mixture] = {}


def _mixture(file: Path) -> Mixture:
    if file not in _kept:
        _kept[file] = Mixture.load(file)
    return _kept[file]


class NumberedSource:
    """The Source port over numbered vectors."""

    def __init__(self, vectors: NumberedVectors, space: EmbeddingSpace, folder: Path, whole_rows: bool) -> None:
        """`folder` has the queries, in queries.npz, and gets the rows nearest to them, below truth. `whole_rows`: items
        with all columns of a catalogue, some 250 bytes each; else those that one filters by."""
        self.vectors, self.space, self._folder, self._whole_rows = vectors, space, folder, whole_rows
        self.versions = {self.vectors.name: self.vectors.items}

    def count(self) -> int:
        return self.vectors.items

    def item_bytes(self) -> float:
        return ITEM_BYTES

    def shards(self, items: int) -> tuple[Shard, ...]:
        """Whole blocks."""
        each = max(1, round(items / BLOCK_ROWS)) * BLOCK_ROWS
        starts = list(range(0, self.vectors.items, each))
        bounds = [None, *(_id(start) for start in starts[1:]), None]
        return tuple(Shard(number=at, start=bounds[at], stop=bounds[at + 1]) for at in range(len(starts)))

    def sample(self, wanted: int, scratch: Path, progress: Progress) -> Sample:
        """Rows at even distances of so many blocks, at even distances too, that a quarter of each is taken."""
        blocks = min(self._blocks, math.ceil(4 * wanted / BLOCK_ROWS))
        numbers = sorted({at * self._blocks // blocks for at in range(blocks)})
        each = math.ceil(wanted / len(numbers))
        vectors = np.empty((min(wanted, self.count()), self.vectors.dim), np.float32)
        rows, filled = np.empty(len(vectors), np.int64), 0
        with progress.step("sample", len(vectors)) as step:
            for number in numbers:
                block = self.vectors.block(number)
                few = np.linspace(0, len(block) - 1, min(each, len(block), len(vectors) - filled)).astype(np.int64)
                vectors[filled : filled + len(few)] = block[few]
                rows[filled : filled + len(few)] = few + number * BLOCK_ROWS
                filled += len(few)
                step.advance(len(few))
        return Sample(vectors[:filled], pa.chunked_array([pc.cast(pa.array(rows[:filled]), pa.string())]))

    def blocks(self, shard: Shard, scratch: Path, progress: Progress) -> Iterator[Block]:
        start = 0 if shard.start is None else int(shard.start)
        stop = self.vectors.items if shard.stop is None else int(shard.stop)
        with np.load(self._folder / QUERIES_NAME) as stored:
            queries = np.concatenate([stored["pictures"], stored["texts"]])
        scores, rows = np.full((len(queries), TRUE), -np.inf, np.float32), np.full((len(queries), TRUE), -1, np.int64)
        for number in range(start // BLOCK_ROWS, -(-stop // BLOCK_ROWS)):
            vectors, first = self.vectors.block(number), number * BLOCK_ROWS
            improve(scores, rows, queries, vectors, first)
            items = self._items(first, vectors)
            yield Block(items, vectors, Coverage(silver_items=len(vectors), indexed=len(vectors)))
        write_bytes(self._folder / TRUTH / f"{shard.number:05d}.npz", _packed(scores, rows))

    def encode_texts(self, titles: Sequence[str]) -> Vectors:
        """Texts of the sampled items, whose titles are their numbers."""
        return self.vectors.texts(np.array(titles, dtype=np.int64))

    def explain_nothing(self) -> NoReturn:
        raise LookalikeError(f"{self.vectors.name} has no vectors")

    @property
    def _blocks(self) -> int:
        return math.ceil(self.vectors.items / BLOCK_ROWS)

    def _items(self, first: int, vectors: Vectors) -> pa.Table:
        """Columns as a shop has them: brands of very different size, categories that hold what looks alike."""
        random, count = np.random.default_rng([7, first]), len(vectors)
        brand = np.minimum(random.zipf(1.2, count), BRANDS)
        directions = np.random.default_rng(7).standard_normal((vectors.shape[1], CATEGORIES), dtype=np.float32)
        category = (vectors @ directions).argmax(axis=1)
        names = pa.array([f"category {number}" for number in range(CATEGORIES)])
        every = pa.array(np.arange(count + 1, dtype=np.int32))
        columns = {
            "item_id": pc.utf8_lpad(pc.cast(pa.array(np.arange(first, first + count)), pa.string()), DIGITS, "0"),
            "brand": pc.binary_join_element_wise("brand", pc.cast(pa.array(brand), pa.string()), " "),
            "category_path": pa.ListArray.from_arrays(every, names.take(pa.array(category))),
            "price": pa.array(np.round(random.lognormal(3, 1, count), 2)),
            "stock": pa.array(random.poisson(3, count)),
        }
        fields = [field for field in SILVER.schema if field.name not in LEFT_OUT]
        if not self._whole_rows:
            return pa.table(columns, pa.schema([field for field in fields if field.name in columns]))
        same = {"version": 1, "title": "generated", "image_path": "none.png", "content_hash": "0" * 64, "width": 1,
                "height": 1, "source": "bench"}  # fmt: skip
        for field in fields:
            columns.setdefault(field.name, _repeated(same.get(field.name), field.type, count))
        return pa.table(columns, pa.schema(fields))


def read_truth(folder: Path) -> tuple[Vectors, NDArray[np.int64]]:
    """Scores and rows of the true nearest, shape (queries, TRUE), of all shards together."""
    parts = [np.load(file) for file in sorted((folder / TRUTH).glob("*.npz"))]
    scores, rows = (np.concatenate([part[name] for part in parts], axis=1) for name in ("scores", "rows"))
    return best(scores, rows, TRUE)


def _id(number: int) -> str:
    return f"{number:0{DIGITS}d}"


def _repeated(value: object, kind: pa.DataType, count: int) -> pa.Array:
    return pa.nulls(count, kind) if value is None else pa.repeat(pa.scalar(value, kind), count)


def _packed(scores: Vectors, rows: NDArray[np.int64]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, scores=scores, rows=rows)
    return buffer.getvalue()
