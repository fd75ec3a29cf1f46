"""The log port: durable, ordered, partitioned messages. One contract, two adapters (an embedded file, Kafka).

An append is acknowledged only when it survives a crash of every process (and of the machine, where the disk keeps its
word). Offsets of a partition grow, with gaps where a topic was compacted or messages expired.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lookalike.contracts.change import Position, Topic
from lookalike.contracts.errors import LookalikeError, TryAgain


class LogUnavailable(TryAgain):
    """The log cannot be reached or written now; nothing was acknowledged. Try again."""


class OffsetExpired(LookalikeError):
    """Messages from this offset on are no longer all there: they expired."""


@dataclass(frozen=True)
class Message:
    """What is appended. The key decides the partition and, in a compacted topic, what is replaced."""

    key: bytes
    value: bytes


@dataclass(frozen=True)
class Record:
    """What is read. `appended_ms`: when it was appended, ms since 1970 (UTC), by the log's own clock."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    appended_ms: int


class Log(Protocol):
    """Safe for use by several threads and processes at once."""

    @property
    def partitions(self) -> int:
        """Number of partitions, the same for every topic; fixed for the life of the log."""
        ...

    def append(self, topic: Topic, messages: Sequence[Message]) -> list[Position]:
        """Append all and return where each lies, in order. Durable on return. Raises LogUnavailable."""
        ...

    def read(self, topic: Topic, partition: int, offset: int, limit: int, wait_seconds: float = 0.0) -> list[Record]:
        """Up to `limit` records from the first offset that is at least `offset`, in order.

        When there is none, waits for one up to `wait_seconds` and returns what there is then. Raises OffsetExpired
        when `offset` lies below `low_watermark`, LogUnavailable.
        """
        ...

    def high_watermark(self, topic: Topic, partition: int) -> int:
        """Offset that the next message will get; 0 for an empty topic."""
        ...

    def low_watermark(self, topic: Topic, partition: int) -> int:
        """Lowest offset from which nothing has expired. Compaction does not raise it: the latest per key is there."""
        ...

    def commit(self, group: str, topic: Topic, offsets: Mapping[int, int]) -> None:
        """Remember for `group` the next offset to read, by partition. Durable on return."""
        ...

    def committed(self, group: str, topic: Topic) -> dict[int, int]:
        """What `commit` remembered; partitions never committed are absent."""
        ...

    def close(self) -> None:
        """Let go of connections; the log stays."""
        ...
