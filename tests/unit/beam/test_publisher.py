"""Publishing over a real embedded log: order, crash at every step, holes, orphans, two writers at once."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest

from beam.elements import SeenPicture, Wait
from beam.parked import Parked
from beam.parse import parse_record
from beam.publish import GROUP, HoleInLog, Publisher, key_within
from beam.read import LogRecord
from beam.releases import Followed
from beam.state_store import StateStore
from lookalike.catalogue.changes import encode_change
from lookalike.catalogue.intake import PictureInfo
from lookalike.catalogue.refused_rows import RefusedChange
from lookalike.contracts.change import CatalogueEvent, Position, Topic, partition_of
from lookalike.contracts.product import Product
from lookalike.contracts.settings import Settings
from lookalike.contracts.vector_update import VectorUpdate
from lookalike.storage.log.opening import open_log
from lookalike.storage.log.port import Message

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


class Killed(Exception):
    """The process dies here."""


class DyingLog:
    """Dies before the n-th write."""

    def __init__(self, log, lives):
        self._log, self._lives = log, lives

    def __getattr__(self, name):
        return getattr(self._log, name)

    def append(self, topic, messages):
        self._spend()
        return self._log.append(topic, messages)

    def commit(self, *arguments):
        self._spend()
        self._log.commit(*arguments)

    def _spend(self):
        if self._lives == 0:
            raise Killed
        self._lives -= 1


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path, stream={"retry_attempts": 2})


class Worker:
    """A process: its publisher and its own store, fed straight from the log."""

    def __init__(self, settings, store="items.db", lives=None):
        self.settings = settings
        self.log = open_log(settings)
        self.store = StateStore(settings.stream_root / store)
        log = self.log if lives is None else DyingLog(self.log, lives)
        self.publisher = Publisher(log, self.store, SimpleNamespace(now=Followed()), settings)

    def read(self, topic):
        changes = []
        for partition in range(self.log.partitions):
            at = self.log.committed(GROUP, topic).get(partition, 0)
            previous = -1
            for record in self.log.read(topic, partition, at, 1000):
                entry = LogRecord(
                    topic, partition, record.offset, previous, record.key, record.value, record.appended_ms
                )
                changes.append(with_picture(parse_record(entry, self.log.partitions, self.settings.intake)))
                previous = record.offset
        return changes

    def run(self, *topics):
        for topic in topics or (Topic.CHANGES,):
            if changes := self.read(topic):
                self.publisher.publish(changes)

    def die(self):
        self.store.close()
        self.log.close()


def with_picture(change):
    if change.event is None or change.event.product is None:
        return change
    digest = change.event.product.image_path
    picture = SeenPicture(PictureInfo(1, 1, "PNG", digest), {"s" * 16: np.full(2, len(digest), np.float32)})
    return change.__class__(**{name: getattr(change, name) for name in change.__slots__} | {"picture": picture})


def event(kind, item_id, version, **columns):
    product = (
        Product(item_id=item_id, version=version, title=item_id, image_path=f"{version}".rjust(64, "0"))
        if kind == "upsert"
        else None
    )
    return CatalogueEvent(
        kind=kind, item_id=item_id, version=version, event_time=NOON, source="shop", product=product, columns=columns
    )


def send(log, *events):
    log.append(Topic.CHANGES, [Message(each.item_id.encode(), encode_change(each)) for each in events])


def traffic():
    """Two partitions, every fate: published, repeated, behind, parked, and a last change that gives no update."""
    for item in ("a", "b", "c", "d"):
        yield event("upsert", item, 1)
    yield event("attributes", "a", 2, price=2.0)
    yield event("attributes", "nobody", 1, price=1.0)
    yield event("delete", "b", 5)
    yield event("restore", "b", 3)
    yield event("attributes", "c", 9, stock=0)
    yield event("upsert", "e", 1)
    yield event("upsert", "e", 2)  # dealt with twice, the first would be behind
    for item in ("a", "b", "c", "d"):
        yield event("upsert", item, 1)


def messages(log, topic):
    return [
        (partition, record.value)
        for partition in range(log.partitions)
        for record in log.read(topic, partition, 0, 1000)
    ]


def updates(log):
    return [(partition, VectorUpdate.decode(value)) for partition, value in messages(log, Topic.UPDATES)]


def facts(log):
    """What consumers make of the log: last state and vectors per item, refusals and parked changes by place, how far
    each partition is.
    """
    last = {
        update.state.item_id: (update.state.to_json(), list(update.vectors))
        for _, update in updates(log)
        if update.state
    }
    refused = {}
    for _, value in messages(log, Topic.REFUSED):
        change = RefusedChange.decode(value)
        refused[change.partition, change.offset] = (change.reason, change.item_id, change.payload)
    far = {
        partition: max(update.origin.offset for number, update in updates(log) if number == partition)
        for partition in range(log.partitions)
    }
    waiting = {Parked.decode(value).origin for _, value in messages(log, Topic.LATER)}
    return last, refused, waiting, far, len({(update.origin, update.state is None) for _, update in updates(log)})


def test_a_bundle_is_published_in_order_and_marked_to_its_end(settings):
    worker = Worker(settings)
    send(worker.log, *traffic())
    worker.run()
    for partition in range(worker.log.partitions):
        here = [update for number, update in updates(worker.log) if number == partition]
        assert [update.origin.offset for update in here] == sorted(update.origin.offset for update in here)
        assert {update.origin.partition for update in here} == {partition}
        assert (
            here[-1].state is None and here[-1].origin.offset == worker.log.high_watermark(Topic.CHANGES, partition) - 1
        )
        assert worker.log.committed(GROUP, Topic.CHANGES)[partition] == here[-1].origin.offset + 1
    assert len(messages(worker.log, Topic.LATER)) == 1
    assert [RefusedChange.decode(value).item_id for _, value in messages(worker.log, Topic.REFUSED)] == ["b"]


@pytest.mark.parametrize("lives", range(6))
def test_killed_before_any_step_and_run_again_it_is_as_if_undisturbed(tmp_path, lives):
    whole = Settings(home=tmp_path / "whole")
    undisturbed = Worker(whole)
    send(undisturbed.log, *traffic())
    undisturbed.run()
    broken = Settings(home=tmp_path / "broken")
    worker = Worker(broken, lives=lives)
    send(worker.log, *traffic())
    if lives < 5:  # later, refused, updates, two commits
        with pytest.raises(Killed):
            worker.run()
    else:
        worker.run()
    worker.die()
    again = Worker(broken)
    again.run()
    assert facts(again.log) == facts(undisturbed.log)
    origins = [update.origin for _, update in updates(again.log) if update.state]
    assert len(origins) == len(set(origins)), "an update was published twice"


def test_after_a_crash_the_lost_store_is_made_again_from_the_log(settings):
    worker = Worker(settings)
    send(worker.log, *traffic())
    worker.run()
    before = facts(worker.log)
    worker.die()
    (settings.stream_root / "items.db").write_bytes(b"not a database" * 100)
    again = Worker(settings)
    again.log.commit(GROUP, Topic.CHANGES, {0: 0, 1: 0})
    again.run()
    assert facts(again.log) == before and len(updates(again.log)) == before[-1]
    assert again.store.get("a").update.state.columns["price"] == 2.0


def test_a_store_of_another_log_is_emptied(settings, tmp_path):
    worker = Worker(settings)
    send(worker.log, *traffic())
    worker.run()
    worker.die()
    for path in tmp_path.glob("log.db*"):
        path.unlink()
    fresh = Worker(settings)
    fresh.publisher.catch_up()
    assert fresh.store.get("a") is None


def test_a_change_that_did_not_arrive_stops_the_job(settings):
    worker = Worker(settings)
    send(worker.log, *(event("upsert", "a", version) for version in (1, 2, 3)))
    first, _, third = worker.read(Topic.CHANGES)
    with pytest.raises(HoleInLog, match="offset 2 came right after 1"):
        worker.publisher.publish([third, first])
    assert updates(worker.log) == []


def test_an_orphan_of_a_bundle_that_was_cut_off_does_not_speak_for_those_before_it(settings):
    worker = Worker(settings, lives=1)  # parked, then killed
    send(worker.log, event("delete", "x", 1), event("upsert", "x", 5))
    first, slow = worker.read(Topic.CHANGES)
    with pytest.raises(Killed):
        worker.publisher.publish([first, replace(slow, picture=None, wait=Wait.UNDER_WAY)])
    worker.die()
    again = Worker(settings)
    again.run(Topic.LATER)  # its picture is there, but its bundle is not done
    assert updates(again.log) == []
    again.run(Topic.CHANGES, Topic.LATER)
    kinds = {update.origin.offset: update.kind for _, update in updates(again.log) if update.state}
    assert kinds == {0: "delete", 1: "upsert"}
    assert again.store.get("x").update.state.version == 5


def test_two_writers_that_did_not_see_each_other_lose_nothing(settings):
    one, two = Worker(settings, "one.db"), Worker(settings, "two.db")
    send(one.log, event("upsert", "a", 1))
    one.run()
    two.publisher.catch_up()
    send(one.log, event("attributes", "a", 2, price=2.0), event("attributes", "a", 3, stock=3))
    price, stock = one.read(Topic.CHANGES)
    settled = two.publisher._settled({(Topic.CHANGES, price.origin.partition): [price, stock][1:]})
    one.publisher.publish([price])
    two.publisher._write(settled)  # written without having seen the price
    last = [update for _, update in updates(one.log) if update.state][-1]
    assert (last.state.columns["price"], last.state.columns["stock"]) == (2.0, 3)
    assert list(last.vectors) == ["s" * 16]
    one.publisher.catch_up()
    assert one.store.get("a").update.state == two.store.get("a").update.state


@pytest.mark.parametrize("covered", [True, False])
def test_an_item_that_a_snapshot_withdrew_does_not_come_back_with_a_new_price(settings, covered):
    """A release that was built from the item's message and lacks the item says so; an older release does not."""
    worker = Worker(settings)
    send(worker.log, event("upsert", "a", 1))
    worker.run()
    partition = partition_of(b"a", worker.log.partitions)
    offsets = {str(partition): 1} if covered else {}
    without = SimpleNamespace(rows_of=lambda ids: [-1], manifest=SimpleNamespace(log_offsets=offsets))
    worker.publisher._releases.now = Followed("2", without)
    send(worker.log, event("attributes", "a", 2, price=3.0))
    worker.run()
    priced = updates(worker.log)[-1][1].state
    assert (priced.deleted, priced.columns["price"]) == (covered, 3.0)
    send(worker.log, event("upsert", "a", 3))
    worker.run()
    assert not updates(worker.log)[-1][1].state.deleted, "a whole row brings it back"


@pytest.mark.parametrize("partitions", [1, 2, 3, 7])
def test_a_key_is_found_for_every_partition(partitions):
    for partition in range(partitions):
        assert partition_of(key_within(b"\x00progress:0", partition, partitions), partitions) == partition
    assert key_within(b"a", partition_of(b"a", partitions), partitions) == b"a"


def test_a_change_in_a_foreign_partition_is_refused(settings):
    data = encode_change(event("delete", "a", 1))
    wrong = 1 - partition_of(b"a", 2)
    change = parse_record(LogRecord(Topic.CHANGES, wrong, 0, -1, b"", data, 10**13), 2, settings.intake)
    assert change.refusal.reason == "malformed" and "crc32" in change.refusal.detail
    assert change.origin == Position(wrong, 0)
