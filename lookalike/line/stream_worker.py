"""A worker of the stream as a child process: started, told when to go and when to drain, listened to.

It talks over pipes; its end of the command pipe closes with this process, whatever ends it, and the worker then drains
by itself. See beam.pipelines for the words.
"""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from beam.pipelines import DRAIN, GO, READY
from lookalike.contracts.settings import Settings

MAX_LOG_BYTES = 10 * 2**20


@dataclass
class StreamWorker:
    """One process. Times are of the monotonic clock; 0.0 where it has not come so far."""

    name: str
    process: subprocess.Popen[str]
    log: Path
    log_start: int
    started: float
    ready_at: float = 0.0
    went_at: float = 0.0
    running_at: float = 0.0
    drain_at: float = 0.0
    rss_bytes: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    _listener: threading.Thread | None = None

    @property
    def ended(self) -> bool:
        """Whether the process is gone and all that it said was heard."""
        return self.process.poll() is not None and (self._listener is None or not self._listener.is_alive())

    @property
    def boot_seconds(self) -> float:
        """From start to READY."""
        return max(0.0, self.ready_at - self.started)

    def go(self) -> None:
        """Let it begin."""
        self.went_at = time.monotonic()
        self._command(GO)

    def drain(self) -> None:
        """Tell it to end when its bundle is done. One that has not begun has nothing to finish and is killed."""
        if not self.drain_at:
            self.drain_at = time.monotonic()
            if self.went_at:
                self._command(DRAIN)
            else:
                self.kill()

    def kill(self) -> None:
        """End it now. What it had not finished is done again by the next one."""
        self.process.kill()
        self.process.wait()

    def tail(self, lines: int = 12) -> str:
        """The last lines that it logged."""
        with self.log.open("rb") as file:
            file.seek(self.log_start)
            text = file.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def listen(self) -> None:
        """Take in what it says, in a thread of its own."""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _command(self, word: str) -> None:
        if self.process.stdin is None:
            raise ValueError("a worker is started with a pipe")
        try:
            self.process.stdin.write(word + "\n")
            self.process.stdin.flush()
        except OSError:
            pass  # it has ended; the next look at it says so

    def _listen(self) -> None:
        if self.process.stdout is None:
            raise ValueError("a worker is started with a pipe")
        for line in self.process.stdout:
            if line.strip() == READY:
                self.ready_at = time.monotonic()
            elif line.startswith("{"):
                beat = json.loads(line)
                self.running_at = self.running_at or time.monotonic()
                self.rss_bytes, self.counts = beat["rss_bytes"], beat["counts"]


def start_worker(settings: Settings, name: str) -> StreamWorker:
    """Start the worker of the pipeline `name`. It boots, says READY and waits."""
    log = settings.home.absolute() / "logs" / f"stream-{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as output:
        start = output.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            [sys.executable, "-m", "beam.worker", name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, text=True,
            start_new_session=True,  # Ctrl-C in a terminal reaches the supervisor only
        )  # fmt: skip
    worker = StreamWorker(name, process, log, start, time.monotonic())
    worker._command(settings.model_dump_json())
    worker.listen()
    return worker
