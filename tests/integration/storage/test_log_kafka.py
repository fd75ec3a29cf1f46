"""What is Kafka's own: topics as they are made, expiry at the broker, gaps that no message fills, a broker away."""

import socket
import time

import pytest

from lookalike.contracts.change import Topic, partition_of
from lookalike.contracts.errors import LookalikeError
from lookalike.line.kafka_broker import start_broker
from lookalike.storage.log.opening import open_log
from lookalike.storage.log.port import LogUnavailable, Message, OffsetExpired

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(kafka_broker, kafka_settings_of, tmp_path):
    return kafka_settings_of(kafka_broker.brokers, tmp_path)


@pytest.fixture
def log(settings):
    opened = open_log(settings)
    yield opened
    opened.close()


@pytest.fixture
def admin(kafka_broker):
    from confluent_kafka.admin import AdminClient

    return AdminClient({"bootstrap.servers": kafka_broker.brokers})


def test_topics_are_made_with_their_configuration(log, settings, admin):
    from confluent_kafka.admin import ConfigResource

    for topic in Topic:
        log.high_watermark(topic, 0)
    names = {topic: f"{settings.log.topic_prefix}{topic}" for topic in Topic}
    listed = admin.list_topics(timeout=10).topics
    for topic, name in names.items():
        assert len(listed[name].partitions) == 2
        resource = ConfigResource(ConfigResource.Type.TOPIC, name)
        conf = {key: entry.value for key, entry in admin.describe_configs([resource])[resource].result(10).items()}
        compacted = topic in (Topic.UPDATES, Topic.REPORTS)
        assert set(conf["cleanup.policy"].split(",")) == ({"compact", "delete"} if compacted else {"delete"})
        assert conf["retention.ms"] == str(168 * 3_600_000)
        assert conf["max.message.bytes"] == str(4 * 1024 * 1024)
        assert conf["message.timestamp.type"] == "LogAppendTime"


def test_what_the_broker_deleted_is_expired_for_new_and_standing_readers(log, settings, admin):
    from confluent_kafka import TopicPartition

    partition = partition_of(b"a", 2)
    log.append(Topic.CHANGES, [Message(b"a", str(number).encode()) for number in range(10)])
    assert len(log.read(Topic.CHANGES, partition, 0, 2)) == 2
    name = f"{settings.log.topic_prefix}{Topic.CHANGES}"
    for future in admin.delete_records([TopicPartition(name, partition, 6)]).values():
        future.result(10)
    assert log.low_watermark(Topic.CHANGES, partition) == 6
    assert log.high_watermark(Topic.CHANGES, partition) == 10
    with pytest.raises(OffsetExpired, match=r"offset 3 .* below 6 has expired"):
        log.read(Topic.CHANGES, partition, 3, 5)
    assert [int(record.value) for record in log.read(Topic.CHANGES, partition, 6, 9)] == [6, 7, 8, 9]
    for future in admin.delete_records([TopicPartition(name, partition, 10)]).values():
        future.result(10)
    assert log.append(Topic.CHANGES, [Message(b"a", b"10")])[0].offset == 10
    assert [record.offset for record in log.read(Topic.CHANGES, partition, 10, 9)] == [10]


def test_a_gap_at_the_end_is_no_message_and_no_outage(log, settings, kafka_broker):
    """The end mark of a transaction takes an offset that no reader is given, as compaction leaves offsets empty."""
    from confluent_kafka import Producer

    assert log.high_watermark(Topic.UPDATES, 0) == 0
    producer = Producer({"bootstrap.servers": kafka_broker.brokers, "transactional.id": settings.log.topic_prefix})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(f"{settings.log.topic_prefix}{Topic.UPDATES}", b"v", b"k", 0)
    producer.commit_transaction(30)
    while log.high_watermark(Topic.UPDATES, 0) < 2:  # the mark is written after the answer
        time.sleep(0.01)
    for _ in range(3):
        assert [record.value for record in log.read(Topic.UPDATES, 0, 0, 5)] == [b"v"]
        for wait in (0.0, 0.0, 0.3):
            assert log.read(Topic.UPDATES, 0, 1, 5, wait_seconds=wait) == []
    key = next(key for key in (b"a", b"b", b"c", b"d", b"e") if partition_of(key, 2) == 0)
    assert log.append(Topic.UPDATES, [Message(key, b"w")])[0].offset == 2
    assert [record.offset for record in log.read(Topic.UPDATES, 0, 1, 5)] == [2]


def test_a_broker_that_is_not_there_is_named(kafka_settings_of, tmp_path):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        brokers = f"127.0.0.1:{held.getsockname()[1]}"
        log = open_log(kafka_settings_of(brokers, tmp_path))
        with pytest.raises(LogUnavailable, match=f"Kafka at {brokers} could not make or find topic"):
            log.append(Topic.CHANGES, [Message(b"a", b"1")])
        log.close()


def test_a_broker_is_refused_a_port_that_is_taken(tmp_path, kafka_broker, kafka_cache):
    with pytest.raises(LookalikeError, match=f"port {kafka_broker.port} of 127.0.0.1 is taken"):
        start_broker(tmp_path, kafka_cache, kafka_broker.port)
