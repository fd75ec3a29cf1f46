"""Publishes a bundle so that a crash at any moment loses nothing and doubles nothing, without transactions.

The order does it: parked changes, then refusals, then updates by origin with a mark for how far they go, then the
offsets. After a crash the updates tell up to where everything was dealt with; what lies above is done once more, and
doing it once more changes nothing. A parked change counts only once its bundle is done: its origin is then at or below
that mark.
"""

import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count

from beam.base_items import live_item
from beam.elements import Change
from beam.parked import parked
from beam.releases import ReleaseFollower
from beam.settle import Dropped, KnownItem, Parking, settle
from beam.state_store import Progress, StateStore, StoredItem
from lookalike.catalogue.refused_rows import UNKNOWN_SOURCE, RefusedChange, refused_change
from lookalike.contracts.change import Position, Topic, partition_of
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.item_state import unknown_item
from lookalike.contracts.product import Refusal
from lookalike.contracts.sealed_index import SealedIndex
from lookalike.contracts.settings import Settings
from lookalike.contracts.vector_update import VectorUpdate
from lookalike.storage.log.port import Log, Message

LOG = logging.getLogger("lookalike.stream")
GROUP = "enrich"
"""Group whose committed offsets say how far `catalogue-changes` and its parked changes are done."""
CATCH_UP_RECORDS = 1_000


class HoleInLog(LookalikeError):
    """A change did not arrive here although later ones did; going on would lose it."""


@dataclass
class _Batch:
    """What a bundle comes to."""

    later: list[Message] = field(default_factory=list)
    refused: list[Message] = field(default_factory=list)
    updates: list[VectorUpdate] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)


class Publisher:
    """One per process: all bundles go through it, one at a time."""

    def __init__(self, log: Log, store: StateStore, releases: ReleaseFollower, settings: Settings) -> None:
        self._log, self._store, self._releases = log, store, releases
        self._attempts = settings.stream.retry_attempts
        self._lock = threading.Lock()
        self._next: dict[tuple[Topic, int], int] = {}

    def catch_up(self) -> None:
        """Take in all of `vector-updates`; what a worker does before it begins."""
        with self._lock:
            for partition in range(self._log.partitions):
                self._caught_up(partition)

    def publish(self, changes: Sequence[Change]) -> Counter[str]:
        """Deal with a bundle and commit its offsets; returns what was counted. Raises HoleInLog, LogUnavailable."""
        by_lane: dict[tuple[Topic, int], list[Change]] = defaultdict(list)
        for change in changes:
            by_lane[change.topic, change.origin.partition].append(change)
        with self._lock:
            for lane in by_lane.values():
                lane.sort(key=lambda change: change.offset)
                self._check_chain(lane)
            batch = self._settled(by_lane)
            self._write(batch)
            for (topic, partition), lane in by_lane.items():
                self._next[topic, partition] = lane[-1].offset + 1
                self._log.commit(GROUP, topic, {partition: lane[-1].offset + 1})
        return batch.counted

    def _check_chain(self, lane: Sequence[Change]) -> None:
        """Every record names the one read before it; one that did not come here is a hole."""
        topic, partition = lane[0].topic, lane[0].origin.partition
        done = self._next.get((topic, partition))
        if done is None:
            done = self._log.committed(GROUP, topic).get(partition, lane[0].previous + 1)
        for change in lane:
            if change.previous >= done:
                raise HoleInLog(
                    f"{topic}, partition {partition}: offset {change.offset} came right after {change.previous}, but "
                    f"only offsets below {done} have been dealt with. The stream stops here; started again it goes on "
                    f"from {self._log.committed(GROUP, topic).get(partition, 0)}"
                )
            done = max(done, change.offset + 1)

    def _settled(self, by_lane: dict[tuple[Topic, int], list[Change]]) -> _Batch:
        batch = _Batch()
        items: dict[str, KnownItem] = {}
        lanes = sorted(by_lane.items(), key=lambda lane: lane[0][1])
        for partition in sorted({partition for _, partition in by_lane}):
            progress = self._caught_up(partition)
            here = [change for (_, number), lane in lanes if number == partition for change in lane]
            here.sort(key=lambda change: (change.origin, change.offset))
            for change in here:
                self._settle(change, progress, items, batch)
            self._mark(partition, by_lane.get((Topic.CHANGES, partition), []), progress, batch)
        return batch

    def _settle(self, change: Change, progress: Progress, items: dict[str, KnownItem], batch: _Batch) -> None:
        event, counted = change.event, batch.counted
        counted["read"] += not change.parked_before
        if not change.parked_before and change.origin.offset <= progress.origin_offset:
            counted["skipped"] += 1
            return
        if change.parked_before and change.origin.offset > progress.origin_offset:
            # Its bundle was cut off before its updates; the change itself is still to come, or another worker is at it.
            batch.later.append(self._parked(change, change.tries))
            return
        counted["pictures_fetched"] += change.fetched
        known = KnownItem(unknown_item(""))
        if event is not None:
            known = items[event.item_id] if event.item_id in items else self._known(event.item_id)
        settled = settle(change, known, self._attempts)
        match settled:
            case Refusal():
                batch.refused.append(self._refusal(change, settled))
                counted[f"refused_{settled.reason}"] += 1
            case Parking():
                batch.later.append(self._parked(change, settled.tries))
                counted["parked"] += 1
            case Dropped():
                counted[settled.value] += 1
            case KnownItem() if event is not None:
                items[event.item_id] = settled
                batch.updates.append(
                    VectorUpdate(change.origin, settled.state, event.kind, event.event_time, settled.vectors)
                )
                counted[f"published_{event.kind}"] += 1
                counted["vectors_reused"] += change.fetched and not change.embedded

    def _known(self, item_id: str) -> KnownItem:
        """What the stream published, joined with the live release's row where that was not done yet."""
        stored, now = self._store.get(item_id), self._releases.now
        published = None if stored is None else stored.update.state
        if stored is not None and published is not None and stored.release == now.release:
            return KnownItem(published, stored.update.vectors)
        live = live_item(now.items, item_id)
        if stored is None or published is None:
            return KnownItem(unknown_item(item_id) if live is None else live.state)
        if live is None:
            withdrawn = published.described and covers(now.items, stored)
            return KnownItem(replace(published, deleted=published.deleted or withdrawn), stored.update.vectors)
        state = live.state.merge(published)
        return KnownItem(state, stored.update.vectors if state.content_hash == published.content_hash else {})

    def _mark(self, partition: int, lane: Sequence[Change], progress: Progress, batch: _Batch) -> None:
        """Say how far this bundle goes where its last change gave no update."""
        if not lane or lane[-1].offset <= progress.origin_offset:
            return
        at = Position(partition, lane[-1].offset)
        if all(update.origin != at for update in batch.updates):
            batch.updates.append(VectorUpdate(at))

    def _write(self, batch: _Batch) -> None:
        if batch.later:
            self._log.append(Topic.LATER, batch.later)
        if batch.refused:
            self._log.append(Topic.REFUSED, batch.refused)
        if batch.updates:
            self._taken_in(self._log.append(Topic.UPDATES, [self._message(each) for each in batch.updates]), batch)

    def _taken_in(self, positions: Sequence[Position], batch: _Batch) -> None:
        """Keep what was published, or read it where another writer's messages lie in between."""
        by_partition: dict[int, list[tuple[int, VectorUpdate]]] = defaultdict(list)
        for at, update in zip(positions, batch.updates, strict=True):
            by_partition[at.partition].append((at.offset, update))
        for partition, written in by_partition.items():
            first, last = written[0][0], written[-1][0]
            if first == self._store.progress(partition).next_offset and last - first == len(written) - 1:
                self._store.absorb(partition, written, last + 1, self._releases.now.release)
            else:
                self._caught_up(partition)

    def _caught_up(self, partition: int) -> Progress:
        """Take in what is new in `vector-updates`; returns how far it is then.

        Where two writers did not see each other, the joined states are published before the loss is taken in.
        """
        end = self._log.high_watermark(Topic.UPDATES, partition)
        at = self._store.progress(partition).next_offset
        if at > end:
            LOG.warning("vector-updates is shorter than the state store has read; that is made again from it")
            self._store.forget()
            at = 0
        while at < end:
            at = max(at, self._log.low_watermark(Topic.UPDATES, partition))
            records = self._log.read(Topic.UPDATES, partition, at, CATCH_UP_RECORDS)
            at = records[-1].offset + 1 if records else end
            updates = [(record.offset, VectorUpdate.decode(record.value)) for record in records]
            if lost := self._store.lost(partition, updates):
                LOG.warning("two writers did not see each other: %d items of partition %d joined", len(lost), partition)
                self._log.append(Topic.UPDATES, [self._message(update) for update in lost])
                end = self._log.high_watermark(Topic.UPDATES, partition)
            self._store.absorb(partition, updates, at)
        return self._store.progress(partition)

    def _parked(self, change: Change, tries: int) -> Message:
        key = change.event.item_id.encode() if change.event is not None else b""
        return Message(self._key(key, change.origin.partition), parked(change, tries).encode())

    def _refusal(self, change: Change, refusal: Refusal) -> Message:
        source = change.event.source if change.event is not None else UNKNOWN_SOURCE
        refused: RefusedChange = refused_change(refusal, change.origin, change.payload, datetime.now(UTC), source)
        return Message(self._key(refused.key, change.origin.partition), refused.encode())

    def _message(self, update: VectorUpdate) -> Message:
        return Message(self._key(update.key, update.origin.partition), update.encode())

    def _key(self, wish: bytes, partition: int) -> bytes:
        return key_within(wish, partition, self._log.partitions)


def covers(items: SealedIndex | None, stored: StoredItem) -> bool:
    """Whether the release was built from this message too. An item that it lacks nevertheless was withdrawn by a
    snapshot, which gives no version to that: the next whole row of the item undoes it, a new price does not.
    """
    partition = str(stored.update.origin.partition)
    return items is not None and items.manifest.log_offsets.get(partition, 0) > stored.offset


def key_within(wish: bytes, partition: int, partitions: int) -> bytes:
    """`wish`, or where that belongs into another partition, the first of `wish:0`, `wish:1`, … that does not."""
    return next(key for key in _keys(wish) if partition_of(key, partitions) == partition)


def _keys(wish: bytes) -> Iterable[bytes]:
    yield wish
    for number in count():
        yield wish + b":%d" % number
