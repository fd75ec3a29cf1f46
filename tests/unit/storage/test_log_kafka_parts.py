"""Parts of the Kafka adapter that need no broker: configuration and its limits."""

import pytest

from lookalike.contracts.change import Topic
from lookalike.contracts.errors import SettingsError
from lookalike.contracts.settings import LogSettings, load_settings
from lookalike.line.kafka_jars import KAFKA_JARS
from lookalike.storage.log.kafka_clients import client_conf, topic_conf
from lookalike.storage.log.kafka_reader import make_consumer
from lookalike.storage.log.kafka_writer import KafkaWriter
from lookalike.storage.log.opening import open_log, tidy_log
from lookalike.storage.log.port import Message


def test_further_configuration_reaches_the_clients_but_not_what_promises_rest_on():
    log = LogSettings(conf={"sasl.username": "me", "reconnect.backoff.max.ms": "5"})
    conf = client_conf(log, {"acks": "all"})
    assert (conf["sasl.username"], conf["reconnect.backoff.max.ms"], conf["acks"]) == ("me", "5", "all")
    with pytest.raises(SettingsError, match=r"log.conf may not set acks, bootstrap.servers"):
        client_conf(LogSettings(conf={"acks": "0", "bootstrap.servers": "x"}), {"acks": "all"})


def test_configuration_that_kafka_does_not_know_is_named():
    log = LogSettings(conf={"no.such.thing": "1"})
    with pytest.raises(SettingsError, match=r'log.conf: .*"no.such.thing"'):
        make_consumer(log, "g")
    with pytest.raises(SettingsError, match=r'log.conf: .*"no.such.thing"'):
        KafkaWriter(log).append("t", [Message(b"a", b"1")], [0])


@pytest.mark.parametrize(("replication", "in_sync"), [(1, "1"), (2, "1"), (3, "2")])
def test_topics_keep_as_long_as_the_settings_say(replication, in_sync):
    log = LogSettings(retention_hours=2, replication=replication)
    conf = topic_conf(Topic.CHANGES, log)
    assert (conf["retention.ms"], conf["segment.ms"], conf["cleanup.policy"]) == ("7200000", "7200000", "delete")
    assert conf["min.insync.replicas"] == in_sync
    assert topic_conf(Topic.UPDATES, log)["cleanup.policy"] == "compact,delete"


def test_opening_kafka_connects_to_nothing_yet(tmp_path):
    log = open_log(load_settings(home=tmp_path, log={"kind": "kafka", "brokers": "127.0.0.1:1", "partitions": 5}))
    assert log.partitions == 5
    assert tidy_log(log) == 0
    log.close()


def test_every_jar_of_the_broker_is_named_once_with_its_digest():
    assert len({jar.file_name for jar in KAFKA_JARS}) == len(KAFKA_JARS) == 45
    assert all(len(jar.sha256) == 64 and int(jar.sha256, 16) for jar in KAFKA_JARS)
    assert {jar.version for jar in KAFKA_JARS if jar.group == "org.apache.kafka"} == {"4.4.0"}
