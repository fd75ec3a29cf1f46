"""The archive worker, killed at random moments while updates come in and while another writer rewrites the table."""

import random
import threading
import time
from collections import Counter
from datetime import UTC, datetime

import pytest

from beam.pipelines import drain_file
from lookalike.catalogue.refused_rows import RefusedChange
from lookalike.contracts.change import ChangeKind, Position, Topic, partition_of
from lookalike.contracts.item_state import unknown_item
from lookalike.contracts.product import RefusalReason
from lookalike.contracts.settings import load_settings
from lookalike.contracts.tables import CHANGES, REFUSED
from lookalike.contracts.vector_update import VectorUpdate
from lookalike.line.stream_worker import start_worker
from lookalike.storage.delta import DeltaTables
from lookalike.storage.log.opening import open_log
from lookalike.storage.log.port import Message

pytestmark = pytest.mark.slow
KILLS = 5
SEED = 11
AT = datetime(2026, 11, 23, 10, tzinfo=UTC)


class Traffic(threading.Thread):
    """Appends updates, marks and refusals (some twice) until stopped."""

    def __init__(self, settings) -> None:
        super().__init__()
        self._log = open_log(settings)
        self.stop = threading.Event()

    def run(self) -> None:
        dice = random.Random(SEED)
        number = 0
        while not self.stop.is_set():
            number += 1
            key = f"item-{number % 40}"
            partition = partition_of(key.encode(), 2)
            state, _ = unknown_item(key).set_deleted(number, True, AT)
            updates = [VectorUpdate(Position(partition, number), state, ChangeKind.DELETE, AT)]
            if number % 7 == 0:
                updates.append(VectorUpdate(Position(partition, number)))
            self._log.append(Topic.UPDATES, [Message(update.key, update.encode()) for update in updates])
            refused = RefusedChange(0, number, "shop", None, RefusalReason.MALFORMED, "no JSON", AT, "{")
            for _ in range(dice.choice((0, 1, 2))):
                self._log.append(Topic.REFUSED, [Message(b"0:%d" % number, refused.encode())])
            time.sleep(0.004)
        self._log.close()


class Rewriter(threading.Thread):
    """Compacts the table again and again, as maintenance does."""

    def __init__(self, tables: DeltaTables) -> None:
        super().__init__()
        self._tables = tables
        self.stop = threading.Event()
        self.rewrites = 0

    def run(self) -> None:
        from deltalake import DeltaTable
        from deltalake.exceptions import CommitFailedError

        while not self.stop.is_set():
            time.sleep(0.3)
            if self._tables.exists(CHANGES.name):
                try:
                    DeltaTable(self._tables.uri(CHANGES.name)).optimize.compact()
                    self.rewrites += 1
                except CommitFailedError:
                    pass


def run_worker(settings, seconds: float | None) -> None:
    """A worker for so long, then SIGKILL; without `seconds` until all is archived, then drained."""
    worker = start_worker(settings, "archive")
    while not worker.ready_at:
        assert worker.process.poll() is None, worker.tail()
        time.sleep(0.02)
    worker.go()
    if seconds is not None:
        time.sleep(seconds)
        worker.kill()
        return
    log = open_log(settings)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not all(
        log.committed("archive", topic).get(partition, 0) == log.high_watermark(topic, partition)
        for topic in (Topic.UPDATES, Topic.REFUSED)
        for partition in (0, 1)
    ):
        assert worker.process.poll() is None, worker.tail()
        time.sleep(0.1)
    log.close()
    worker.drain()
    assert worker.process.wait(20) == 0, worker.tail()
    assert drain_file(settings, "archive").exists()


def test_killed_again_and_again_it_archives_each_row_once(tmp_path):
    settings = load_settings(home=tmp_path, stream={"archive_seconds": 0.1, "nice": 0})
    tables, dice = DeltaTables(settings.tables_root), random.Random(SEED)
    traffic, rewriter = Traffic(settings), Rewriter(tables)
    traffic.start()
    rewriter.start()
    try:
        for _ in range(KILLS):
            run_worker(settings, dice.uniform(0.3, 2.5))
    finally:
        for thread in (traffic, rewriter):
            thread.stop.set()
            thread.join()
    run_worker(settings, None)

    log = open_log(settings)
    published, refused = Counter(), set()
    for partition in (0, 1):
        for record in log.read(Topic.UPDATES, partition, 0, 10**6):
            state = VectorUpdate.decode(record.value).state
            if state is not None:
                published[partition, record.offset, state.to_json()] += 1
        for record in log.read(Topic.REFUSED, partition, 0, 10**6):
            refused.add(RefusedChange.decode(record.value).offset)
    log.close()
    rows = tables.read(CHANGES, ("partition", "offset", "state")).to_pylist()
    assert Counter((row["partition"], row["offset"], row["state"]) for row in rows) == published
    numbers = tables.read(REFUSED, ("row_number",))["row_number"].to_pylist()
    assert sorted(numbers) == sorted(refused)
    assert rewriter.rewrites > 0 and len(rows) > 100
