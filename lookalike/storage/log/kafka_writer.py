"""Appends to Kafka: an idempotent producer, whose answers a thread of its own collects."""

import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from lookalike.contracts.change import Position
from lookalike.contracts.settings import LogSettings
from lookalike.storage.log.kafka_clients import ANSWER_SECONDS, client_conf, explained, unavailable
from lookalike.storage.log.limits import BATCH_BYTES
from lookalike.storage.log.port import LogUnavailable, Message

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Producer

GRACE_SECONDS = 2.0
POLL_SECONDS = 0.5
FULL_PAUSE_SECONDS = 0.005
_PRODUCER: dict[str, Any] = {
    "enable.idempotence": True,
    "acks": "all",
    "compression.codec": "zstd",
    "message.max.bytes": BATCH_BYTES,
    "message.timeout.ms": int(ANSWER_SECONDS * 1000),
    "linger.ms": 1,
}


class _Delivery:
    """What became of the messages of one append."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages
        self._lock = threading.Lock()
        self._left = len(messages)
        self.offsets: list[int] = [-1] * len(messages)
        self.failed: dict[int, KafkaError] = {}
        self.finished = threading.Event()

    def done(self, number: int, error: "KafkaError | None", message: Any) -> None:
        """Called for each message, by the thread that collects."""
        if error is None:
            self.offsets[number] = message.offset()
        else:
            self.failed[number] = error
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self.finished.set()

    def first_failure(self) -> str:
        """Which message failed first, and of how many."""
        number = min(self.failed)
        return (
            f"take message {number} of {len(self._messages)} (key {self._messages[number].key[:80]!r}; "
            f"{len(self.failed)} failed)"
        )


class KafkaWriter:
    """One producer, made at the first append and again after one that failed.

    A producer whose messages timed out while no broker was there was seen to deliver nothing later on.
    """

    def __init__(self, log: LogSettings) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._producer: Producer | None = None
        self._closed = threading.Event()

    def append(self, name: str, messages: Sequence[Message], partitions: Sequence[int]) -> list[Position]:
        """Send all to the partitions given and wait until all are acknowledged. Raises LogUnavailable."""
        producer = self._open()
        delivery = _Delivery(messages)
        for number, (message, partition) in enumerate(zip(messages, partitions, strict=True)):
            self._produce(producer, name, message, partition, partial(delivery.done, number))
        # The producer itself gives up after ANSWER_SECONDS; the rest is for its answer to come through.
        if not delivery.finished.wait(ANSWER_SECONDS + GRACE_SECONDS):
            self._drop(producer)
            raise unavailable(self._log.brokers, f"take {len(messages)} messages for {name}", "no answer")
        if delivery.failed:
            self._drop(producer)
            raise unavailable(self._log.brokers, delivery.first_failure(), delivery.failed[min(delivery.failed)])
        return [Position(place, offset) for place, offset in zip(partitions, delivery.offsets, strict=True)]

    def close(self) -> None:
        """Send what is under way and let go."""
        self._closed.set()
        with self._lock:
            producer, self._producer = self._producer, None
        if producer is not None:
            producer.flush(ANSWER_SECONDS)

    def _produce(self, producer: "Producer", name: str, message: Message, partition: int, done: Any) -> None:
        """Queue one message; waits while the queue is full."""
        from confluent_kafka import KafkaException

        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                producer.produce(name, message.value, message.key, partition, on_delivery=done)
                return
            except BufferError:
                if time.monotonic() > deadline:
                    raise unavailable(self._log.brokers, "take messages as fast as they come", "queue full") from None
                time.sleep(FULL_PAUSE_SECONDS)
            except KafkaException as error:
                self._drop(producer)
                raise unavailable(self._log.brokers, f"take a message for {name}", error.args[0]) from error

    def _open(self) -> "Producer":
        from confluent_kafka import Producer

        with self._lock:
            if self._closed.is_set():
                raise LogUnavailable(f"the log at {self._log.brokers} was closed by this process")
            if self._producer is None:
                with explained(self._log.brokers, "be set up"):
                    self._producer = Producer(client_conf(self._log, _PRODUCER))
                threading.Thread(
                    target=self._collect, args=(self._producer,), name="log-deliveries", daemon=True
                ).start()
            return self._producer

    def _drop(self, producer: "Producer") -> None:
        with self._lock:
            if self._producer is producer:
                self._producer = None

    def _collect(self, producer: "Producer") -> None:
        """Run the callbacks of this producer while it is in use; `close` and `len` do the rest."""
        while self._producer is producer or len(producer):
            producer.poll(POLL_SECONDS)
