"""How the stream stands against `settings.health`: lag, freshness, and the age and memory of its workers.

Lag comes from the log's own offsets and freshness from what servers said last, so neither depends on the word of a
worker. Age and memory are those of the worker processes of this machine; a job on a cluster has them in its own UI.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from beam.pipelines import READS
from lookalike.contracts.server_report import ServerReport
from lookalike.contracts.settings import Settings
from lookalike.line.changes import opened_log
from lookalike.line.reports import SILENT_SECONDS, server_reports
from lookalike.line.stream_meter import StreamMeter

PROC = Path("/proc")
WORKER_MODULE = "beam.worker"


@dataclass(frozen=True)
class HealthReading:
    """One figure: what it is of, how it is now, what is allowed (empty: nothing is demanded of it)."""

    what: str
    now: str
    allowed: str = ""
    over: bool = False


@dataclass(frozen=True)
class Health:
    """All readings; `healthy` when none is over."""

    readings: tuple[HealthReading, ...]

    @property
    def over(self) -> list[HealthReading]:
        """What is not as it should be."""
        return [reading for reading in self.readings if reading.over]

    @property
    def line(self) -> str:
        """In one line: what is over, or that nothing is."""
        if not self.over:
            return f"the stream is well: {len(self.readings)} readings within their limits"
        return "the stream is not well: " + "; ".join(
            f"{reading.what} {reading.now} (allowed: {reading.allowed})" for reading in self.over
        )


@dataclass(frozen=True)
class WorkerProcess:
    """A worker of the stream on this machine. `seconds`: since it was started."""

    name: str
    pid: int
    seconds: float
    rss_bytes: int


def health(settings: Settings) -> Health:
    """Read everything; starts nothing and makes nothing. Raises LogUnavailable."""
    if settings.log.kind == "sqlite" and not settings.log_path.exists():
        return Health((HealthReading("log", "none yet: nothing was ever sent"),))
    now = datetime.now(UTC)
    heard = [report for report in server_reports(settings) if not report.stopped]
    return Health((
        *_pipelines(settings),
        *(reading for report in heard for reading in _server(settings, report, now)),
        *_workers(settings),
    ))  # fmt: skip


def _pipelines(settings: Settings) -> Iterator[HealthReading]:
    allowed = settings.health
    with opened_log(settings) as log:
        meter = StreamMeter(log)
        for reading in map(meter.reading, READS):
            yield HealthReading(
                f"{reading.name} lag", f"{reading.lag:,} records", f"{allowed.lag_records:,}",
                reading.lag > allowed.lag_records,
            )  # fmt: skip
            yield _seconds(f"{reading.name} oldest record", reading.oldest_seconds, allowed.lag_seconds)


def _server(settings: Settings, report: ServerReport, now: datetime) -> Iterator[HealthReading]:
    name = f"server {report.server}"
    if (now - report.at).total_seconds() > SILENT_SECONDS:
        yield HealthReading(name, f"silent since {report.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")
        return
    overlay, fresh = report.overlay or {}, report.freshness.get("all")
    if fresh is None:
        yield HealthReading(f"{name} freshness p99", "no change in the last minutes")
    else:
        yield _seconds(f"{name} freshness p99", fresh["p99"], settings.health.freshness_seconds)
    waiting = max((lag["seconds"] for lag in overlay.get("lag", {}).values()), default=0.0)
    yield _seconds(f"{name} oldest update", waiting, settings.health.lag_seconds)
    if overlay.get("problem"):
        yield HealthReading(name, str(overlay["problem"]), "no problem", over=True)


def _workers(settings: Settings) -> Iterator[HealthReading]:
    allowed, supervisor = settings.health, supervisor_pid(settings)
    if supervisor is None:
        yield HealthReading("workers", "no `lookalike stream` on this machine")
        return
    found = worker_processes(supervisor)
    for name in sorted(READS.keys() - {worker.name for worker in found}):
        yield HealthReading(f"worker {name}", "none at the moment")
    for worker in found:
        what = f"worker {worker.name} ({worker.pid})"
        limit, memory = allowed.worker_minutes, allowed.worker_memory_bytes
        yield HealthReading(
            f"{what} age", f"{worker.seconds / 60:,.1f} min", f"{limit:g} min", worker.seconds > limit * 60
        )
        yield HealthReading(
            f"{what} memory", f"{worker.rss_bytes / 2**20:,.0f} MiB", f"{memory / 2**20:,.0f} MiB",
            worker.rss_bytes > memory,
        )  # fmt: skip


def _seconds(what: str, seconds: float, allowed: float) -> HealthReading:
    return HealthReading(what, f"{seconds:,.2f} s", f"{allowed:g} s", seconds > allowed)


def supervisor_pid(settings: Settings) -> int | None:
    """Process of this home's `lookalike stream`; None where none runs on this machine."""
    path = settings.stream_root / "supervisor.lock"
    try:
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or 0) or None
    except (OSError, ValueError):
        return None
    return None


def worker_processes(supervisor: int) -> list[WorkerProcess]:
    """The workers that this process started, oldest first; none where the system has no /proc."""
    found = []
    for folder in PROC.glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):  # it ended while we looked
            worker = _worker(folder, supervisor)
            if worker is not None:
                found.append(worker)
    return sorted(found, key=lambda worker: (-worker.seconds, worker.pid))


def _worker(folder: Path, supervisor: int) -> WorkerProcess | None:
    # After the name in brackets, which may hold anything: state, parent, …; see proc(5).
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    if int(fields[1]) != supervisor:
        return None
    words = (folder / "cmdline").read_text().rstrip("\0").split("\0")
    if WORKER_MODULE not in words:
        return None
    up = float((PROC / "uptime").read_text().split()[0])
    seconds = up - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    rss = int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return WorkerProcess(words[-1], int(folder.name), max(0.0, seconds), rss)
