"""Source: what a build asks of the vectors, wherever they lie: in pinned tables, in a cluster, in a generator.

Rows come in blocks, in the order of the UTF-8 bytes of their ids, so that equal inputs give equal bytes and an id is
found later by bisection. A source cuts the shards itself, because only it knows how its ids lie.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol, Self

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from lookalike.contracts.encoder import Vectors
from lookalike.contracts.progress import Progress
from lookalike.contracts.space import EmbeddingSpace

NAMED = 5
"""How many ids a message or a count names."""


class Shard(BaseModel):
    """Item ids from `start` (or the first) to before `stop` (or the last), in the order of their UTF-8 bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(ge=0)
    start: str | None
    stop: str | None


class Coverage(BaseModel):
    """How many items there are and how many got a vector; the others by their reason, the first of them by id."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    silver_items: int = 0
    indexed: int = 0
    without_vector: int = 0
    vector_of_an_older_picture: int = 0
    first_left_out: tuple[str, ...] = Field(default=(), max_length=NAMED)

    @classmethod
    def joined(cls, parts: Iterable[Self]) -> Self:
        """Of all parts, in their order."""
        every = list(parts)
        return cls(
            silver_items=sum(each.silver_items for each in every),
            indexed=sum(each.indexed for each in every),
            without_vector=sum(each.without_vector for each in every),
            vector_of_an_older_picture=sum(each.vector_of_an_older_picture for each in every),
            first_left_out=tuple(item_id for each in every for item_id in each.first_left_out)[:NAMED],
        )


@dataclass(frozen=True)
class Block:
    """Row i of `items` describes row i of `vectors`, shape (rows, dim), float32, of unit length.

    `coverage` counts these rows and the items between them that have no vector.
    """

    items: pa.Table
    vectors: Vectors
    coverage: Coverage

    def followed_by(self, other: "Block") -> "Block":
        """These rows, then the other's."""
        return Block(
            pa.concat_tables([self.items, other.items]),
            np.concatenate([self.vectors, other.vectors]),
            Coverage.joined([self.coverage, other.coverage]),
        )

    def cut(self, rows: int) -> tuple["Block", "Block"]:
        """The first `rows`, with all that is counted, and the others."""
        return (
            Block(self.items.slice(0, rows), self.vectors[:rows], self.coverage),
            Block(self.items.slice(rows), self.vectors[rows:], Coverage()),
        )


def even(blocks: Iterable[Block], rows: int) -> Iterator[Block]:
    """The same rows in blocks of `rows`, the last one shorter: what a block gives is the same from every source."""
    waiting: Block | None = None
    for block in blocks:
        waiting = block if waiting is None else waiting.followed_by(block)
        while len(waiting.vectors) >= rows:
            ready, waiting = waiting.cut(rows)
            yield ready
    if waiting is not None:
        yield waiting


@dataclass(frozen=True)
class Sample:
    """Vectors to train on, shape (n, dim), float32, and the title of each one's item."""

    vectors: Vectors
    titles: pa.ChunkedArray


class ShardSource(Protocol):
    """What encoding a shard asks for."""

    def blocks(self, shard: Shard, scratch: Path, progress: Progress) -> Iterator[Block]:
        """Every item of the shard that has a vector, once, in the order of ids; blocks of any size.

        `scratch`: a folder for what does not fit into memory; nothing is left there. Raises BadVectors with the ids of
        vectors that are not fit.
        """
        ...


class Source(ShardSource, Protocol):
    """What a whole build asks for. It is pickled where several processes encode."""

    @property
    def space(self) -> EmbeddingSpace: ...

    @property
    def versions(self) -> dict[str, int]:
        """What the vectors and items depend on: equal versions are equal rows."""
        ...

    def count(self) -> int:
        """Items that may have a vector, about; the recipe is chosen by it. Raises as `explain_nothing` for none."""
        ...

    def item_bytes(self) -> float:
        """Memory that `blocks` takes for each item of a shard, beside the blocks themselves."""
        ...

    def shards(self, items: int) -> tuple[Shard, ...]:
        """Ranges of ids that together hold every id, of about so many items each."""
        ...

    def sample(self, wanted: int, scratch: Path, progress: Progress) -> Sample:
        """So many rows, or all where there are fewer; the same ones every time. `scratch` as in `blocks`."""
        ...

    def explain_nothing(self) -> NoReturn:
        """Say why no item has a vector. Raises LookalikeError."""
        ...
