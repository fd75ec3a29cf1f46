"""SIGKILL at any moment: of writers of the embedded log, and of the Kafka broker under a writer that goes on."""

import hashlib
import random
import time

import pytest

from lookalike.contracts.change import Topic
from lookalike.contracts.settings import load_settings
from lookalike.line.kafka_broker import start_broker
from lookalike.storage.log.opening import open_log
from lookalike.storage.log.port import LogUnavailable, Message


def stored(log) -> dict[tuple[int, int], tuple[str, int]]:
    """Key and number of each record by its place; every value is whole and the offsets have no gap."""
    found = {}
    for partition in range(log.partitions):
        offset, high = 0, log.high_watermark(Topic.CHANGES, partition)
        while offset < high:
            for record in log.read(Topic.CHANGES, partition, offset, 500):
                assert record.offset == offset
                digest, body = record.value.decode().split(":", 1)
                assert hashlib.sha256(body.encode()).hexdigest() == digest, "a torn value"
                found[partition, offset] = (record.key.decode(), int(body.split(":")[1]))
                offset += 1
    return found


def test_writers_killed_at_random_moments_lose_and_tear_nothing(tmp_path, start_child):
    settings = load_settings(home=tmp_path / "kills")
    chance = random.Random(7)
    acknowledged = {}
    for turn in range(4):
        children = [start_child("write", f"t{turn}c{number}", "2", "1000000", settings=settings) for number in (0, 1)]
        said = [child.line() for child in children]
        time.sleep(chance.random() / 2)
        for child in children:
            child.kill()
        said += [line for child in children for line in child.lines()]
        acknowledged |= {(partition, offset): (key, number) for key, number, partition, offset in said}
    log = open_log(settings)
    found = stored(log)
    log.close()
    assert acknowledged.items() <= found.items()
    numbers: dict[str, list[int]] = {}
    for _, (key, number) in sorted(found.items()):
        numbers.setdefault(key, []).append(number)
    assert all(seen == list(range(len(seen))) for seen in numbers.values()), "an append is there whole or not at all"
    assert len(numbers) == 4 * 2 * 2


@pytest.mark.slow
def test_a_broker_killed_under_a_writer_keeps_what_it_acknowledged_and_the_writer_goes_on(
    tmp_path, kafka_settings_of, kafka_cache, start_child
):
    broker = start_broker(tmp_path / "broker", kafka_cache)
    try:
        settings = kafka_settings_of(broker.brokers, tmp_path)
        log = open_log(settings)
        first = log.append(Topic.CHANGES, [Message(b"mine", b"before")])[0]
        log.commit("g", Topic.CHANGES, {first.partition: 1})
        child = start_child("write", "w", "3", "100000", settings=settings)
        said = [child.line() for _ in range(200)]
        broker.kill()
        with pytest.raises(LogUnavailable, match=broker.brokers):
            log.append(Topic.CHANGES, [Message(b"mine", b"lost")])
        with pytest.raises(LogUnavailable, match=broker.brokers):
            log.read(Topic.CHANGES, first.partition, 0, 1, wait_seconds=1.5)
        with pytest.raises(LogUnavailable, match=broker.brokers):
            log.high_watermark(Topic.CHANGES, 0)
        with pytest.raises(LogUnavailable, match=broker.brokers):
            log.commit("g", Topic.CHANGES, {0: 1})
        broker = start_broker(tmp_path / "broker", kafka_cache, broker.port)
        until_works(lambda: log.append(Topic.CHANGES, [Message(b"mine", b"after")]))
        while (line := child.line())[1] == "unavailable" or len(said) < 600:
            said.append(line)
        child.kill()
        check_after_restart(log, said, first)
        log.close()
    finally:
        broker.stop()


def until_works(call):
    """What `call` returns, tried again while the log cannot be reached."""
    for _ in range(10):
        try:
            return call()
        except LogUnavailable as error:
            last = error
    raise last


def check_after_restart(log, said, first) -> None:
    assert log.read(Topic.CHANGES, first.partition, first.offset, 1)[0].value == b"before"
    assert log.committed("g", Topic.CHANGES)[first.partition] == 1
    places: dict[str, dict[int, int]] = {}
    numbers: dict[str, set[int]] = {}
    for partition in range(log.partitions):
        offset, high = 0, log.high_watermark(Topic.CHANGES, partition)
        while offset < high:
            for record in log.read(Topic.CHANGES, partition, offset, 500):
                offset = record.offset + 1
                if record.key != b"mine":
                    number = int(record.value.split(b":")[2])
                    places.setdefault(record.key.decode(), {})[record.offset] = number
                    numbers.setdefault(record.key.decode(), set()).add(number)
    acknowledged = [line for line in said if line[1] != "unavailable"]
    assert len(acknowledged) >= 200
    for key, number, _, offset in acknowledged:
        assert places[key][offset] == number
    assert all(seen == set(range(len(seen))) for seen in numbers.values()), (
        "a failed append was sent again until it was"
    )
