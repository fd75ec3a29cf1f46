"""An engine's worker and all that it starts: asked by lines, its memory watched, killed at its limits."""

import contextlib
import json
import mmap
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from typing import IO, Any, Self

ONE_THREAD = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "RAYON_NUM_THREADS",
    "TOKIO_WORKER_THREADS", "LANCE_CPU_THREADS", "LANCE_IO_THREADS",
)  # fmt: skip
BUILDING = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Threads that spin while they wait for one that has no core would take those of others."""
LOOK_SECONDS = 0.5
EXIT_SECONDS = 0.02
LAST_LINES = 6
MEMORY = {"VmRSS": "resident", "RssAnon": "anonymous", "RssFile": "mapped", "RssShmem": "shared"}


class EngineFailed(Exception):
    """Why a worker is no more."""


class Worker:
    """A process that leads a session of its own, so that whatever it starts is counted and ended with it."""

    def __init__(
        self, command: list[str], log: Path, deadline: float, memory_bytes: float, search: bool,
        descriptors: tuple[int, ...] = (),
    ) -> None:  # fmt: skip
        """`deadline`: of time.monotonic(); `memory_bytes`: most that all its processes may hold beside mapped files;
        `descriptors`: of open files that it gets."""
        variables = dict.fromkeys(ONE_THREAD, "1") if search else BUILDING
        self._log, self._deadline, self._most = log, deadline, memory_bytes
        self._killed_because = ""
        self.peak: Counter[str] = Counter()
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, start_new_session=True,
                env=os.environ | variables | {"PYTHONUNBUFFERED": "1"}, text=True, pass_fds=descriptors,
            )  # fmt: skip
        _same_priority(self._popen.pid)
        threading.Thread(target=self._watch, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        while members(self._popen.pid):
            self._end()
            time.sleep(EXIT_SECONDS)
        self._popen.wait()

    def ask(self, **command: Any) -> dict[str, Any]:
        """One command, one answer. Raises EngineFailed, with the end of what the worker wrote."""
        try:
            _pipe(self._popen.stdin).write(json.dumps(command) + "\n")
            _pipe(self._popen.stdin).flush()
            line = _pipe(self._popen.stdout).readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self._popen.wait()
            tail = " | ".join(self._log.read_text(errors="replace").strip().splitlines()[-LAST_LINES:])
            raise EngineFailed(f"{self._killed_because or f'its process ended with {code}'}. Its last words: {tail}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def memory(self) -> dict[str, int]:
        """Bytes of all its processes now."""
        return dict(memory_of(members(self._popen.pid)))

    def cpu_seconds(self) -> float:
        """Of all its processes so far, and of those that they waited for."""
        return cpu_seconds_of(members(self._popen.pid))

    def _watch(self) -> None:
        while self._popen.poll() is None:
            now = memory_of(members(self._popen.pid))
            self.peak |= now
            if now["anonymous"] > self._most:
                self._killed_because = f"killed: it held more than {self._most / 2**30:.1f} GiB"
            elif time.monotonic() > self._deadline:
                self._killed_because = "killed: its time was over"
            if self._killed_because:
                self._end()
            time.sleep(LOOK_SECONDS)

    def _end(self) -> None:
        for pid in members(self._popen.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Meter:
    """What a worker took from here on, and what others took of the machine meanwhile."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._started = self._now()

    def took(self) -> dict[str, float]:
        """Seconds by the clock, of its processors, and of processors busy with anything but it and the bench."""
        clock, cpu, busy, own = (now - before for now, before in zip(self._now(), self._started, strict=True))
        others = max(0.0, busy - cpu - own)
        return {"seconds": round(clock, 2), "cpu_seconds": round(cpu, 2), "others_cpu_seconds": round(others, 2)}

    def _now(self) -> tuple[float, float, float, float]:
        return time.monotonic(), self._worker.cpu_seconds(), busy_seconds(), time.process_time()


def members(session: int) -> list[int]:
    """Processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(stat.parent.name))
    return found


def memory_of(pids: list[int]) -> "Counter[str]":
    """Bytes by kind, of processes that may be gone by now."""
    total: Counter[str] = Counter(dict.fromkeys(MEMORY.values(), 0))
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                name, _, value = line.partition(":")
                if name in MEMORY:
                    total[MEMORY[name]] += int(value.split()[0]) * 1024
    return total


def cpu_seconds_of(pids: list[int]) -> float:
    """Processor time of these and of the children that they waited for."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def busy_seconds() -> float:
    """Processor time of the whole machine, since it started, that was neither idle nor waiting for a disk."""
    times = [int(each) for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(times) - times[3] - times[4]) / os.sysconf("SC_CLK_TCK")


def bytes_of(folder: Path) -> int:
    """Disk that the files of a folder take."""
    return sum(path.stat().st_blocks * 512 for path in _files(folder))


def forget(folder: Path) -> None:
    """Nothing of its files stays in the page cache but what is mapped and in use."""
    for path in _files(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached(folder: Path) -> "Counter[str]":
    """Bytes of the page cache by name of file."""
    import ctypes

    import numpy as np

    libc, found = ctypes.CDLL(None, use_errno=True), Counter[str]()
    for path in _files(folder):
        size = path.stat().st_size
        if size == 0:
            continue
        with path.open("rb") as file, mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) as mapped:
            pages = np.zeros(-(-size // mmap.PAGESIZE), np.uint8)
            view = np.frombuffer(mapped, np.uint8)
            address, length = ctypes.c_void_p(view.ctypes.data), ctypes.c_size_t(size)
            if libc.mincore(address, length, ctypes.c_void_p(pages.ctypes.data)):
                raise OSError(ctypes.get_errno(), f"{path}: mincore")
            del view
            found[path.name] += int(np.count_nonzero(pages & 1)) * mmap.PAGESIZE
    return found


def _same_priority(pid: int) -> None:
    """Linux weighs sessions against each other: a new one would not be as low as the one that it is started from."""
    with contextlib.suppress(OSError, ValueError):
        _, _, nice = Path("/proc/self/autogroup").read_text().rpartition(" ")  # empty where this process is in no group
        Path(f"/proc/{pid}/autogroup").write_text(str(int(nice)))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
