"""Where the readers of a group stand, kept by Kafka: a consumer per group that commits without joining the group.

Kafka's administration interface could do the same, but librdkafka 2.16 ends the whole process by a failed assertion
when such a request timed out and its broker comes back.
"""

import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lookalike.contracts.settings import LogSettings
from lookalike.storage.log.kafka_clients import ANSWER_SECONDS, explained, settled, unavailable
from lookalike.storage.log.kafka_reader import make_consumer

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, TopicPartition

POLL_SECONDS = 0.002  # a call back does not end a poll


class GroupOffsets:
    """Offsets of one group. Safe for several threads; one at a time asks."""

    def __init__(self, log: LogSettings, group: str) -> None:
        self._log = log
        self._group = f"{log.topic_prefix}{group}"
        self._lock = threading.Lock()
        self._answers: list[tuple[KafkaError | None, dict[tuple[str, int], int]]] = []
        self._consumer = make_consumer(log, self._group, on_commit=self._answered)

    def commit(self, name: str, offsets: Mapping[int, int]) -> None:
        """Have Kafka remember these. Raises LogUnavailable when it does not say in time that it has."""
        from confluent_kafka import KafkaException, TopicPartition

        wanted = {(name, partition): offset for partition, offset in offsets.items()}
        doing = f"remember offsets of group {self._group}"

        def ask() -> None:
            places = [TopicPartition(*place, offset) for place, offset in wanted.items()]
            self._answers.clear()
            self._consumer.commit(offsets=places, asynchronous=True)
            deadline = time.monotonic() + ANSWER_SECONDS
            while time.monotonic() < deadline:
                self._consumer.poll(POLL_SECONDS)
                for error, committed in self._answers:
                    if committed == wanted:  # else it is the late answer to a commit that was given up
                        if error is not None:
                            raise KafkaException(error)
                        return
            raise unavailable(self._log.brokers, doing, f"no answer within {ANSWER_SECONDS:g} s")

        with self._lock, explained(self._log.brokers, doing):
            settled(ask)

    def committed(self, name: str, partitions: int) -> dict[int, int]:
        """What Kafka remembers, by partition. Raises LogUnavailable."""
        from confluent_kafka import KafkaException, TopicPartition

        def ask() -> dict[int, int]:
            places = [TopicPartition(name, partition) for partition in range(partitions)]
            found = self._consumer.committed(places, timeout=ANSWER_SECONDS)
            for place in found:
                if place.error is not None:
                    raise KafkaException(place.error)
            return {place.partition: place.offset for place in found if place.offset >= 0}

        with self._lock, explained(self._log.brokers, f"tell offsets of group {self._group}"):
            return settled(ask)

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()

    def _answered(self, error: "KafkaError | None", places: "list[TopicPartition]") -> Any:
        fault = error or next((place.error for place in places if place.error is not None), None)
        self._answers.append((fault, {(place.topic, place.partition): place.offset for place in places}))
