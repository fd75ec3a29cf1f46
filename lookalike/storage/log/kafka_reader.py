"""Reads one partition of a Kafka topic: a consumer that stands where the last read ended, and seeks when asked to."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lookalike.contracts.settings import LogSettings
from lookalike.storage.log.kafka_clients import ANSWER_SECONDS, client_conf, explained, settled, unavailable
from lookalike.storage.log.port import LogUnavailable, OffsetExpired, Record

if TYPE_CHECKING:
    from confluent_kafka import Consumer

SURE_SECONDS = 1.0
"""A broker heard of so recently is taken to be there."""
BEYOND_PAUSE_SECONDS = 0.02
_CONSUMER: dict[str, Any] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "enable.partition.eof": True,
    "isolation.level": "read_uncommitted",  # we write no transactions; one left open by others must not hold us up
}
_TUNED: dict[str, Any] = {
    "fetch.wait.max.ms": 100,  # an empty fetch returns then; a message ends it at once
    "fetch.error.backoff.ms": 50,
    "fetch.queue.backoff.ms": 10,
    "queued.max.messages.kbytes": 16_384,
    "max.poll.interval.ms": 86_400_000,
}


def make_consumer(log: LogSettings, group: str, **callbacks: Callable[..., Any]) -> "Consumer":
    """A consumer that never joins its group. Raises SettingsError for a configuration that Kafka does not know."""
    from confluent_kafka import Consumer

    conf = _TUNED | client_conf(log, {**_CONSUMER, "group.id": group})
    with explained(log.brokers, "be set up"):
        return Consumer(conf | callbacks)


def watermarks(consumer: "Consumer", log: LogSettings, name: str, partition: int) -> tuple[int, int]:
    """Lowest offset that is kept and the one after the last, asked of the broker. Raises LogUnavailable."""
    from confluent_kafka import TopicPartition

    doing = f"say where {name}, partition {partition}, begins and ends"
    with explained(log.brokers, doing):
        place = TopicPartition(name, partition)
        found = settled(lambda: consumer.get_watermark_offsets(place, timeout=ANSWER_SECONDS, cached=False))
    if found is None:
        raise unavailable(log.brokers, doing, f"no answer within {ANSWER_SECONDS:g} s")
    return int(found[0]), int(found[1])


class PartitionReader:
    """For one thread at a time. After an error it may be used again."""

    def __init__(self, log: LogSettings, name: str, partition: int, ends: Callable[[], tuple[int, int]]) -> None:
        """`ends` gives the watermarks, over another connection: on this one they would wait behind a fetch."""
        self._log = log
        self._ends = ends
        self._name = name
        self._partition = partition
        self._consumer = make_consumer(log, f"{log.topic_prefix}readers")
        self._end = 0  # there was nothing below this offset that was not delivered
        self._heard = 0.0
        self.position: int | None = None  # the offset for which no seek is needed

    def read(self, offset: int, limit: int, wait_seconds: float) -> list[Record]:
        """As the port says."""
        deadline = time.monotonic() + wait_seconds
        try:
            if offset != self.position and not self._move(offset, deadline):
                return []
            records = self._take_until(limit, deadline)
            if not records and not self._heard_during(wait_seconds):
                records = self._take_what_is_there(offset, limit)
        except BaseException:
            self.position = None
            raise
        if records and self.position is not None:
            self.position = records[-1].offset + 1
        return records

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()

    def _move(self, offset: int, deadline: float) -> bool:
        """Stand at `offset`; False when the partition does not reach so far by the deadline."""
        from confluent_kafka import TopicPartition

        while True:
            low, high = self._ends()
            if offset < low:
                raise self._expired(offset, low)
            if offset <= high:
                break
            if time.monotonic() >= deadline:
                return False
            time.sleep(BEYOND_PAUSE_SECONDS)
        with explained(self._log.brokers, f"let {self._name} be read"):
            self._consumer.assign([TopicPartition(self._name, self._partition, offset)])
        self.position, self._end, self._heard = offset, offset, time.monotonic()
        return True

    def _take_until(self, limit: int, deadline: float) -> list[Record]:
        while True:
            records = self._take(limit, max(0.0, deadline - time.monotonic()))
            if records or time.monotonic() >= deadline:
                return records

    def _take(self, limit: int, seconds: float) -> list[Record]:
        """What has arrived, up to `limit`, after waiting for the first."""
        first = self._consumer.poll(seconds)
        if first is None:
            return []
        # Waiting for several would wait for the full number or the full time.
        messages = [first, *(self._consumer.consume(limit - 1, 0) if limit > 1 else [])]
        self._heard = time.monotonic()
        records: list[Record] = []
        for message in messages:
            if message.error() is None:
                records.append(_record(message))
            elif not self._is_harmless(message):
                if not records:
                    raise self._fault(message)
                self.position = None  # the next read seeks, and meets the error again
                break
        return records

    def _is_harmless(self, message: Any) -> bool:
        from confluent_kafka import KafkaError

        if message.error().code() == KafkaError._PARTITION_EOF:
            self._end = max(self._end, message.offset())
            return True
        return bool(message.error().code() == KafkaError._MAX_POLL_EXCEEDED)

    def _heard_during(self, wait_seconds: float) -> bool:
        """Whether the wait was long enough for a record to arrive, from a broker that is surely there."""
        return wait_seconds > SURE_SECONDS / 10 and time.monotonic() - self._heard < SURE_SECONDS

    def _take_what_is_there(self, offset: int, limit: int) -> list[Record]:
        """Ask where the partition ends, and wait for what lies before that: records, or gaps of compaction."""
        _, high = self._ends()
        self._heard = time.monotonic()
        deadline = self._heard + ANSWER_SECONDS
        while max(offset, self._end) < high:
            records = self._take(limit, 0.1)
            if records:
                return records
            if time.monotonic() > deadline:
                raise unavailable(
                    self._log.brokers, f"deliver {self._name}, partition {self._partition}", "nothing came"
                )
        return []

    def _fault(self, message: Any) -> LogUnavailable | OffsetExpired:
        from confluent_kafka import KafkaError

        if message.error().code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            low, _ = self._ends()
            if self.position is not None and self.position < low:
                return self._expired(self.position, low)
        return unavailable(
            self._log.brokers, f"deliver {self._name}, partition {self._partition}", message.error().str()
        )

    def _expired(self, offset: int, low: int) -> OffsetExpired:
        return OffsetExpired(
            f"{self._name}, partition {self._partition}: offset {offset} was asked for and everything below {low} has "
            f"expired (log.retention_hours = {self._log.retention_hours:g})"
        )


def _record(message: Any) -> Record:
    return Record(
        message.partition(), message.offset(), message.key() or b"", message.value() or b"", message.timestamp()[1]
    )
