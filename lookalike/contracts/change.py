"""A catalogue change as producers send it, and where the messages of the stream travel.

Messages are JSON with a schema version. A reader takes every version up to its own and refuses a newer one with a
clear reason: guessing at fields that it does not know would lose them. Parsing is in `lookalike.catalogue.changes`.
"""

import zlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from lookalike.contracts.errors import BadQuery
from lookalike.contracts.product import Product

SCHEMA = 1
"""Newest schema version of all messages of the stream that this code writes and reads."""


class Topic(StrEnum):
    """Topics of the log. All have the same number of partitions and the same partitioner."""

    CHANGES = "catalogue-changes"  # in, keyed by item
    LATER = "catalogue-changes-later"  # changes parked until their picture or their item can be had
    UPDATES = "vector-updates"  # out, keyed by item; the latest message of a key is its whole state
    REFUSED = "refused"
    REPORTS = "server-reports"  # what each server serves and how fresh it is; keyed by server
    FEEDBACK = "feedback"  # what searches showed and what people did with it; keyed by search


COMPACTED = frozenset({Topic.UPDATES, Topic.REPORTS})
"""Topics of which only the latest message per key matters."""


class ChangeKind(StrEnum):
    """What a change does to its item."""

    UPSERT = "upsert"  # the whole product with its picture
    ATTRIBUTES = "attributes"  # some columns, never the picture: no new embedding
    DELETE = "delete"
    RESTORE = "restore"  # undoes a delete


class CatalogueEvent(BaseModel):
    """One change. `version` grows per item; of two changes of one column the higher version is the truth.

    `product` belongs to upserts, `columns` (names and checked values of SILVER columns; None clears) to attribute
    changes. `event_time` is when it happened in the shop, timezone-aware; freshness is measured from it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ChangeKind
    item_id: str = Field(min_length=1, max_length=512)
    version: int = Field(ge=0)
    event_time: datetime
    source: str = Field(min_length=1, max_length=200)
    product: Product | None = None
    columns: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, order=True)
class Position:
    """A place in a topic: offset within partition."""

    partition: int
    offset: int


def partition_of(key: bytes, partitions: int) -> int:
    """Partition of a key: crc32 modulo `partitions`, in every adapter and for every topic."""
    return zlib.crc32(key) % partitions


def encode_token(seen: dict[int, int]) -> str:
    """Token of a read-your-write: partition and last offset of each partition that was written to."""
    return ",".join(f"{partition}:{offset}" for partition, offset in sorted(seen.items()))


def decode_token(token: str) -> dict[int, int]:
    """The other way. Raises BadQuery."""
    try:
        pairs = [pair.split(":") for pair in token.split(",")]
        seen = {int(partition): int(offset) for partition, offset in pairs}
    except ValueError as error:
        raise BadQuery(f"min_token = {token[:80]!r} is not a token that a change was answered with") from error
    if any(number < 0 for pair in seen.items() for number in pair):
        raise BadQuery(f"min_token = {token[:80]!r} is not a token that a change was answered with")
    return seen
