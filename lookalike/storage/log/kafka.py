"""The log on Apache Kafka, for production: topics by prefix, one message per key and partition in the log's own way.

Offsets of consumers are kept by Kafka under their group's name, without joining the group: which worker reads which
partition is decided by the pipeline's runner. Clients get over an outage of the brokers by themselves; calls raise
LogUnavailable meanwhile.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lookalike.contracts.change import Position, Topic, partition_of
from lookalike.contracts.settings import Settings
from lookalike.storage.log.kafka_clients import KafkaTopics, explained
from lookalike.storage.log.kafka_offsets import GroupOffsets
from lookalike.storage.log.kafka_reader import PartitionReader, make_consumer, watermarks
from lookalike.storage.log.kafka_writer import KafkaWriter
from lookalike.storage.log.limits import check_place, check_sizes
from lookalike.storage.log.port import LogUnavailable, Message, Record

if TYPE_CHECKING:
    from confluent_kafka import Consumer

IDLE_READERS = 4
"""So many of one partition are kept while no thread uses them."""


class KafkaLog:
    """The port `Log` over the brokers of `settings.log`. Connects at the first call, so making one never fails."""

    def __init__(self, settings: Settings) -> None:
        self._log = settings.log
        self._topics = KafkaTopics(settings.log)
        self._writer = KafkaWriter(settings.log)
        self._guard = threading.Lock()  # of the four below
        self._idle: dict[tuple[Topic, int], list[PartitionReader]] = {}
        self._groups: dict[str, GroupOffsets] = {}
        self._asking: Consumer | None = None
        self._closed = False

    @property
    def partitions(self) -> int:
        return self._log.partitions

    def append(self, topic: Topic, messages: Sequence[Message]) -> list[Position]:
        check_sizes(messages)
        if not messages:
            return []
        name = self._topics.ensure(topic)
        partitions = [partition_of(message.key, self._log.partitions) for message in messages]
        return self._writer.append(name, messages, partitions)

    def read(self, topic: Topic, partition: int, offset: int, limit: int, wait_seconds: float = 0.0) -> list[Record]:
        check_place(partition, self._log.partitions, offset)
        name = self._topics.ensure(topic)
        reader = self._borrow(topic, partition, offset) or PartitionReader(
            self._log, name, partition, lambda: self._watermarks(topic, partition)
        )
        try:
            with explained(self._log.brokers, f"let {name} be read"):
                return reader.read(offset, limit, wait_seconds)
        finally:
            self._give_back(topic, partition, reader)

    def high_watermark(self, topic: Topic, partition: int) -> int:
        return self._watermarks(topic, partition)[1]

    def low_watermark(self, topic: Topic, partition: int) -> int:
        return self._watermarks(topic, partition)[0]

    def commit(self, group: str, topic: Topic, offsets: Mapping[int, int]) -> None:
        for partition, offset in offsets.items():
            check_place(partition, self._log.partitions, offset)
        name = self._topics.ensure(topic)
        if offsets:
            self._group(group).commit(name, offsets)

    def committed(self, group: str, topic: Topic) -> dict[int, int]:
        name = self._topics.ensure(topic)
        return self._group(group).committed(name, self._log.partitions)

    def close(self) -> None:
        with self._guard:
            self._closed = True
            clients: list[Any] = [reader for readers in self._idle.values() for reader in readers]
            clients += [*self._groups.values(), *([self._asking] if self._asking else [])]
            self._idle, self._groups, self._asking = {}, {}, None
        self._writer.close()
        for client in clients:
            client.close()

    def _group(self, group: str) -> GroupOffsets:
        with self._guard:
            self._refuse_if_closed()
            if group not in self._groups:
                self._groups[group] = GroupOffsets(self._log, group)
            return self._groups[group]

    def _watermarks(self, topic: Topic, partition: int) -> tuple[int, int]:
        check_place(partition, self._log.partitions)
        name = self._topics.ensure(topic)
        with self._guard:
            self._refuse_if_closed()
            self._asking = self._asking or make_consumer(self._log, f"{self._log.topic_prefix}readers")
            asking = self._asking
        return watermarks(asking, self._log, name, partition)

    def _borrow(self, topic: Topic, partition: int, offset: int) -> PartitionReader | None:
        """An idle reader of this partition that stands at `offset` or nowhere; any other one only if there are many.

        A reader that is made to seek again and again costs a tenth of a second each time.
        """
        with self._guard:
            self._refuse_if_closed()
            idle = self._idle.setdefault((topic, partition), [])
            for wanted in (offset, None):
                for reader in idle:
                    if reader.position == wanted:
                        idle.remove(reader)
                        return reader
            return idle.pop(0) if len(idle) >= IDLE_READERS else None

    def _give_back(self, topic: Topic, partition: int, reader: PartitionReader) -> None:
        with self._guard:
            if not self._closed:
                self._idle[topic, partition].append(reader)
                return
        reader.close()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise LogUnavailable(f"the log at {self._log.brokers} was closed by this process")
