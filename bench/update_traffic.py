"""Traffic of `updates.py`: changes of a shop as the stream publishes them, sent by a process of its own.

Whole states of items with their vectors, as `vector-updates` has them, at an even rate, appended in bundles as the
stream does. What all of them add up to is kept apart (`known`), so that a server can be compared with it.
"""

import multiprocessing
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from index_builder.reader import open_index
from lookalike.contracts.change import ChangeKind, Position, Topic, partition_of
from lookalike.contracts.encoder import Vectors
from lookalike.contracts.item_state import DELETED, ItemState, state_of_row
from lookalike.contracts.sealed_index import Rows, SealedIndex
from lookalike.contracts.settings import load_settings
from lookalike.contracts.vector_update import VectorUpdate
from lookalike.search.products import ProductReader
from lookalike.storage.log.opening import open_log
from lookalike.storage.log.port import Log, Message

MIXES: Mapping[str, Mapping[str, float]] = {
    # Price and stock change with every sale, pictures seldom; as many items come as go, so the catalogue keeps its
    # size. New pictures are still a fifth: they are what costs a search most.
    "shop": {"attributes": 0.7, "new": 0.1, "picture": 0.1, "gone": 0.1},
    # What benches of vector databases do: every change brings a vector.
    "inserts": {"new": 1.0},
}
KINDS = {
    "attributes": ChangeKind.ATTRIBUTES, "new": ChangeKind.UPSERT, "picture": ChangeKind.UPSERT,
    "gone": ChangeKind.DELETE,
}  # fmt: skip
HOT = 3
"""Changes go to the item at this power of an even number: the busiest tenth of the items gets almost half of them."""
STRIDE = 7_919
"""A prime: busy items lie anywhere in the catalogue."""
NEARER = 3.0
"""A new picture lies between two items, so much nearer to the first."""
FIRST_VERSION = 2**40
LINGER_SECONDS = 0.03
"""Of a bundle of the stream; a setting there."""
FILL_BUNDLE = 500


@dataclass
class Known:
    """One item as all changes so far left it. `like`: the sealed row whose other columns it has."""

    like: int
    price: float | None
    stock: int | None
    base_version: int
    column_versions: dict[str, int] = field(default_factory=dict)
    between: tuple[int, int] | None = None
    gone: bool = False

    def state(self, item_id: str, columns: Mapping[str, Any]) -> ItemState:
        """`columns`: those of the row that it is like."""
        own = {**columns, "price": self.price, "stock": self.stock}
        if self.between is not None:
            own["content_hash"] = sha256(f"{item_id} {self.between}".encode()).hexdigest()
        return ItemState(item_id, self.base_version, own, dict(self.column_versions), self.gone)


def pictures(index: SealedIndex, between: Rows) -> Vectors:
    """Vectors of new pictures, each between two sealed rows, shape (n, dim); `between` has shape (n, 2)."""
    mixed = NEARER * index.vectors(between[:, 0]) + index.vectors(between[:, 1])
    unit: Vectors = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    return unit


class Traffic:
    """Changes without end over the items of an index; `known` has every item that changed."""

    def __init__(self, index: SealedIndex, partitions: int, shares: Mapping[str, float], seed: int = 1) -> None:
        self.known: dict[str, Known] = {}
        self._index, self._partitions, self._products = index, partitions, ProductReader(index.columns)
        self._kinds, self._shares = list(shares), np.array(list(shares.values()))
        self._random, self._items, self._made = np.random.default_rng(seed), index.manifest.items, 0
        self._new: list[str] = []

    def take(self, count: int) -> list[VectorUpdate]:
        """The next changes, without a time."""
        kinds = self._random.choice(self._kinds, count, p=self._shares)
        changes = [self._change(str(kind)) for kind in kinds]
        drawn = pictures(self._index, np.array([between or (0, 0) for _, between in changes], np.int64).reshape(-1, 2))
        space = self._index.manifest.space.fingerprint
        return [
            replace(update, vectors={space: vector} if between else {})
            for (update, between), vector in zip(changes, drawn, strict=True)
        ]

    def _change(self, kind: str) -> tuple[VectorUpdate, tuple[int, int] | None]:
        """One change without its vector, and between which rows the item's picture now lies."""
        self._made += 1
        version, random = FIRST_VERSION + self._made, self._random
        item_id, known = self._new_item(version) if kind == "new" else self._item(even=kind == "gone")
        if kind == "gone":
            known.gone = True
            known.column_versions[DELETED] = version
        else:
            known.price, known.stock = round(float(random.lognormal(3, 1)), 2), int(random.poisson(3))
        if kind == "attributes":
            known.column_versions |= {"price": version, "stock": version}
        elif kind == "picture":
            known.base_version, known.column_versions = version, {}
            known.between = self._pair(known.like)
        self.known[item_id] = known
        state = known.state(item_id, state_of_row(self._products.row(known.like)).columns)
        origin = Position(partition_of(item_id.encode(), self._partitions), self._made)
        return VectorUpdate(origin, state, KINDS[kind]), known.between

    def _new_item(self, version: int) -> tuple[str, Known]:
        like = int(self._random.integers(self._items))
        self._new.append(f"new-{len(self._new):09d}")
        return self._new[-1], Known(like, None, None, version, between=self._pair(like))

    def _item(self, even: bool) -> tuple[str, Known]:
        """One that is there: any with the same chance, or rather the busy ones."""
        while True:
            at = int((self._items + len(self._new)) * self._random.random() ** (1 if even else HOT))
            item_id = (
                self._products.item_id(at * STRIDE % self._items) if at < self._items else self._new[at - self._items]
            )
            known = self.known.get(item_id) or self._sealed(at * STRIDE % self._items)
            if not known.gone:
                return item_id, known

    def _sealed(self, row: int) -> Known:
        columns = self._products.row(row)
        return Known(row, columns["price"], columns["stock"], columns["version"])

    def _pair(self, like: int) -> tuple[int, int]:
        return like, int(self._random.integers(self._items))


class Sender:
    """Appends changes to a log. Everything that takes long is done before the time that counts."""

    def __init__(self, log: Log, traffic: Traffic) -> None:
        self._log, self._traffic, self._ready = log, traffic, list[VectorUpdate]()

    def prepare(self, count: int) -> None:
        """Have so many changes at hand."""
        self._ready = self._traffic.take(count)

    def send(self, rate: float, seconds: float) -> dict[str, Any]:
        """What is prepared, at an even rate, as far as `seconds` go; each change happens when it is due.

        What was sent: `count`, the `last` offset of an origin by partition, how late the last bundle was, and the
        processor time.
        """
        began, began_cpu, began_at = time.monotonic(), time.process_time(), time.time()
        due, sent = 0, 0
        last: dict[int, int] = {}
        while sent < len(self._ready):
            time.sleep(LINGER_SECONDS)
            elapsed = min(time.monotonic() - began, seconds)
            due = len(self._ready) if elapsed >= seconds else int(rate * elapsed)
            last |= self._append(self._ready[sent:due], [began_at + at / rate for at in range(sent, due)])
            sent = due
        late = time.monotonic() - began - seconds
        return {"count": sent, "last": last, "late": late, "cpu": time.process_time() - began_cpu}

    def fill(self, count: int) -> dict[int, int]:
        """So many changes at once; the last offset of an origin by partition."""
        last: dict[int, int] = {}
        for start in range(0, count, FILL_BUNDLE):
            bundle = self._traffic.take(min(FILL_BUNDLE, count - start))
            last |= self._append(bundle, [time.time()] * len(bundle))
        return last

    def known(self) -> dict[str, Known]:
        """Every item that changed."""
        return self._traffic.known

    def _append(self, updates: list[VectorUpdate], times: list[float]) -> dict[int, int]:
        timed = []
        for update, seconds in zip(updates, times, strict=True):
            at = datetime.fromtimestamp(seconds, UTC)
            assert update.state is not None
            timed.append(replace(update, event_time=at, state=replace(update.state, changed_at=at)))
        self._log.append(Topic.UPDATES, [Message(update.key, update.encode()) for update in timed])
        return {update.origin.partition: update.origin.offset for update in timed}


class Producer:
    """A Sender in a process of its own, over the log of `home`."""

    def __init__(self, index: Path, home: Path, shares: Mapping[str, float], seed: int = 1) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_produce, args=(theirs, index, home, dict(shares), seed), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, what: str, *given: Any) -> Any:
        """Call a method of the sender."""
        self.start(what, *given)
        return self.result()

    def start(self, what: str, *given: Any) -> None:
        """Call it, and ask for the `result` later. Raises OSError when the process has ended."""
        self._ours.send((what, given))

    def result(self) -> Any:
        """What the call that was started gave. Raises EOFError when the process has ended."""
        return self._ours.recv()

    def close(self) -> None:
        """End the process."""
        self._ours.close()
        self._process.join(10)
        self._process.kill()


def _produce(asked: Connection, index: Path, home: Path, shares: Mapping[str, float], seed: int) -> None:
    threadpool_limits(limits=1, user_api="blas")
    log = open_log(load_settings(home=home))
    sender = Sender(log, Traffic(open_index(index, verify=False), log.partitions, shares, seed))
    try:
        while True:
            what, given = asked.recv()
            asked.send(getattr(sender, what)(*given))
    except EOFError:  # the other side has closed
        log.close()
