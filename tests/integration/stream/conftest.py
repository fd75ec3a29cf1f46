"""A real `lookalike stream` as a child process, changes to feed it, and what its outputs must come to."""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from beam.pipelines import READS
from lookalike.catalogue.changes import encode_change
from lookalike.contracts.change import CatalogueEvent, ChangeKind, Topic
from lookalike.contracts.settings import load_settings
from lookalike.contracts.tables import CHANGES
from lookalike.contracts.vector_update import VectorUpdate
from lookalike.storage.delta import DeltaTables
from lookalike.storage.log.opening import open_log
from lookalike.storage.log.port import Message

WAIT_SECONDS = 240


class StreamHome:
    """A home with a log; `changes` counts what was appended."""

    def __init__(self, home: Path) -> None:
        self.settings = load_settings(home=home)
        self.log = open_log(self.settings)
        self.changes = 0
        self._stop = threading.Event()
        self._producer: threading.Thread | None = None
        self.children: list[subprocess.Popen] = []

    def start(self, *arguments: str) -> subprocess.Popen:
        """`lookalike --json stream …`; stderr goes to the file `stderr`."""
        command = [sys.executable, "-m", "lookalike.cli", "--home", str(self.settings.home), "--json", *arguments]
        with self.stderr.open("ab") as errors:
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        self.children.append(child)
        return child

    @property
    def stderr(self) -> Path:
        return self.settings.home / "stderr"

    def change(self, count: int = 1) -> None:
        """Append deletes, each of an item of its own: one update each."""
        at = datetime.now(UTC)
        messages = []
        for _ in range(count):
            self.changes += 1
            name = f"item-{self.changes}"
            event = CatalogueEvent(kind=ChangeKind.DELETE, item_id=name, version=1, event_time=at, source="shop")
            messages.append(Message(name.encode(), encode_change(event)))
        self.log.append(Topic.CHANGES, messages)

    def produce(self, per_second: float) -> None:
        """Append changes in a thread until `stop_producing`."""

        def work() -> None:
            while not self._stop.wait(1 / per_second):
                self.change()

        self._producer = threading.Thread(target=work)
        self._producer.start()

    def stop_producing(self) -> None:
        self._stop.set()
        if self._producer is not None:
            self._producer.join()

    def lag(self) -> int:
        lag = 0
        for name, topics in READS.items():
            for topic in topics:
                done = self.log.committed(name, topic)
                lag += sum(self.log.high_watermark(topic, p) - done.get(p, 0) for p in range(self.log.partitions))
        return lag

    def updates(self) -> list[tuple[int, int, int, VectorUpdate]]:
        """(partition, offset, appended_ms, update) of every update that is not a mark."""
        found = []
        for partition in range(self.log.partitions):
            for record in self.log.read(Topic.UPDATES, partition, 0, 10**6):
                update = VectorUpdate.decode(record.value)
                if update.state is not None:
                    found.append((partition, record.offset, record.appended_ms, update))
        return found

    def check_nothing_lost_or_doubled(self) -> None:
        changes = Counter(
            (partition, record.offset)
            for partition in range(self.log.partitions)
            for record in self.log.read(Topic.CHANGES, partition, 0, 10**6)
        )
        updates = self.updates()
        assert changes.total() == self.changes
        assert Counter((u.origin.partition, u.origin.offset) for _, _, _, u in updates) == changes
        rows = DeltaTables(self.settings.tables_root).read(CHANGES, ("partition", "offset", "item_id")).to_pylist()
        archived = Counter((row["partition"], row["offset"], row["item_id"]) for row in rows)
        assert archived == Counter((p, offset, u.state.item_id) for p, offset, _, u in updates)

    def wait(self, holds, child: subprocess.Popen | None = None) -> None:
        """Until `holds()`; fails when `child` ends or nothing comes of it."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not holds():
            assert child is None or child.poll() is None, self.stderr.read_text()[-4000:]
            assert time.monotonic() < deadline, self.stderr.read_text()[-4000:]
            time.sleep(0.1)

    def report(self, child: subprocess.Popen) -> dict:
        """The child's report, after its end with code 0."""
        output, _ = child.communicate(timeout=WAIT_SECONDS)
        assert child.returncode == 0, self.stderr.read_text()[-4000:]
        return json.loads(output)

    def close(self) -> None:
        self.stop_producing()
        for child in self.children:
            if child.poll() is None:
                child.kill()
                child.wait()
        self.log.close()


@pytest.fixture
def stream_home(tmp_path):
    home = StreamHome(tmp_path)
    yield home
    home.close()
