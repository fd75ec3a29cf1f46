"""What all Kafka clients of the log share: their configuration, our errors for Kafka's, and the making of topics."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from lookalike.contracts.change import COMPACTED, Topic
from lookalike.contracts.errors import SettingsError
from lookalike.contracts.settings import LogSettings
from lookalike.storage.log.limits import BATCH_BYTES
from lookalike.storage.log.port import LogUnavailable

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

ANSWER_SECONDS = 10.0
SETTLE_PAUSE_SECONDS = 0.05
SEGMENT_MS = 6 * 3_600_000
"""A segment is closed after this time at the latest; only closed ones are compacted and deleted."""

_SHARED: dict[str, Any] = {
    "client.id": "lookalike",
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1000,
    "socket.connection.setup.timeout.ms": 5000,
    "log_level": 2,  # what goes wrong is raised; librdkafka would print the same to stderr, once per attempt
}

Result = TypeVar("Result")


def client_conf(log: LogSettings, needed: Mapping[str, Any]) -> dict[str, Any]:
    """Configuration of a client: ours, then `log.conf`, which may not touch what the log's promises rest on."""
    fixed = {"bootstrap.servers": log.brokers, **needed}
    touched = sorted(fixed.keys() & log.conf.keys())
    if touched:
        raise SettingsError(f"log.conf may not set {', '.join(touched)}: the log's promises rest on it. Remove it.")
    return _SHARED | log.conf | fixed


@contextmanager
def explained(brokers: str, doing: str) -> Iterator[None]:
    """Kafka's errors leave this block as LogUnavailable, or as SettingsError where the configuration is wrong."""
    from confluent_kafka import KafkaError, KafkaException

    try:
        yield
    except KafkaException as error:
        fault = error.args[0] if error.args else None
        if isinstance(fault, KafkaError) and fault.code() == KafkaError._INVALID_ARG:
            raise SettingsError(f"log.conf: {fault.str()}") from error
        raise unavailable(brokers, doing, fault) from error


def settled(ask: Callable[[], Result]) -> Result:
    """What `ask` returns, asked again for a while where Kafka says that it is still choosing who answers."""
    from confluent_kafka import KafkaError, KafkaException

    passing = {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
    }
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in passing or time.monotonic() > deadline:
                raise
        time.sleep(SETTLE_PAUSE_SECONDS)


def unavailable(brokers: str, doing: str, fault: Any) -> LogUnavailable:
    """The error of a failed call. `doing` completes "could not"."""
    return LogUnavailable(f"Kafka at {brokers} could not {doing}: {fault}. Check log.brokers and that it runs.")


def answers(brokers: str, seconds: float) -> bool:
    """Whether a Kafka answers there within `seconds`."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    try:
        AdminClient(client_conf(LogSettings(brokers=brokers), {})).list_topics(timeout=seconds)
    except KafkaException:
        return False
    return True


class KafkaTopics:
    """Makes each topic at its first use, and checks one that is there."""

    def __init__(self, log: LogSettings) -> None:
        self._log = log
        self._ready: set[Topic] = set()
        self._lock = threading.Lock()
        self._admin: AdminClient | None = None

    def name(self, topic: Topic) -> str:
        """The topic's name at the brokers."""
        return f"{self._log.topic_prefix}{topic}"

    def ensure(self, topic: Topic) -> str:
        """The name of the topic, which is there from now on, with a leader for each partition.

        Raises SettingsError when it has another number of partitions than the settings say, LogUnavailable.
        """
        if topic not in self._ready:
            with self._lock:
                if topic not in self._ready:
                    with self.administering(f"make or find topic {self.name(topic)}") as admin:
                        self._make(admin, topic)
                    self._ready.add(topic)
        return self.name(topic)

    def forget(self, topic: Topic) -> None:
        """Look again before the next use: the brokers do not know the topic any more."""
        self._ready.discard(topic)

    @contextmanager
    def administering(self, doing: str) -> Iterator["AdminClient"]:
        """The client for administration, for one task; after an error a new one is made for the next."""
        from confluent_kafka.admin import AdminClient

        with explained(self._log.brokers, doing):
            admin = self._admin = self._admin or AdminClient(client_conf(self._log, {}))
            try:
                yield admin
            except BaseException:
                self._admin = None
                raise

    def _make(self, admin: "AdminClient", topic: Topic) -> None:
        from confluent_kafka import KafkaError, KafkaException
        from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

        name = self.name(topic)
        if name not in admin.list_topics(timeout=ANSWER_SECONDS).topics:
            wanted = NewTopic(
                name,
                num_partitions=self._log.partitions,
                replication_factor=self._log.replication,
                config=topic_conf(topic, self._log),
            )
            try:
                admin.create_topics([wanted], request_timeout=ANSWER_SECONDS)[name].result(ANSWER_SECONDS)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another process was quicker
                    raise
        self._await_leaders(admin, name)

    def _await_leaders(self, admin: "AdminClient", name: str) -> None:
        deadline = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < deadline:
            found = admin.list_topics(timeout=ANSWER_SECONDS).topics.get(name)
            if found is not None and found.partitions:
                self._check(name, len(found.partitions))
                if all(partition.leader >= 0 for partition in found.partitions.values()):
                    return
            time.sleep(0.05)
        raise unavailable(self._log.brokers, f"find a leader for every partition of topic {name}", "it has none yet")

    def _check(self, name: str, partitions: int) -> None:
        if partitions != self._log.partitions:
            raise SettingsError(
                f"topic {name} at {self._log.brokers} has {partitions} partitions and log.partitions = "
                f"{self._log.partitions}. Their number is fixed for the life of a log: set log.partitions = "
                f"{partitions}, or begin a new log with another log.topic_prefix."
            )


def topic_conf(topic: Topic, log: LogSettings) -> dict[str, str]:
    """Configuration with which a topic is made."""
    retention_ms = int(log.retention_hours * 3_600_000)
    return {
        "cleanup.policy": "compact,delete" if topic in COMPACTED else "delete",
        "retention.ms": str(retention_ms),
        "segment.ms": str(min(retention_ms, SEGMENT_MS)),
        "max.message.bytes": str(BATCH_BYTES),
        "message.timestamp.type": "LogAppendTime",
        # With three replicas an acknowledged message is on two of them at least, and one may be away.
        "min.insync.replicas": str(max(1, log.replication - 1)),
    }
