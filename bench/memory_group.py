"""A memory control group for a benchmark: the kernel bounds what the process takes, page cache and all, and counts it.

So that a large machine answers as one with less memory would. Needs a writable hierarchy of control groups (root).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
FILES = {
    1: ("memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.usage_in_bytes"),
    2: ("memory.max", "memory.peak", "memory.current"),
}


@dataclass(frozen=True)
class MemoryGroup:
    """Where this process and its children are counted."""

    folder: Path
    version: int

    @property
    def peak(self) -> int:
        """Most bytes that were charged at a time, page cache included."""
        return int((self.folder / FILES[self.version][1]).read_text())

    @property
    def parts(self) -> dict[str, int]:
        """Bytes now: `anonymous`, and `cache`, the pages of files that were read."""
        told = dict(line.split() for line in (self.folder / "memory.stat").read_text().splitlines())
        names = ("total_rss", "total_cache") if self.version == 1 else ("anon", "file")
        return {kind: int(told[name]) for kind, name in zip(("anonymous", "cache"), names, strict=True)}


@contextmanager
def limited(limit: int) -> Iterator[MemoryGroup]:
    """Within the block this process has at most `limit` bytes. Raises SystemExit where that cannot be had."""
    version, parent = (1, ROOT / "memory") if (ROOT / "memory").is_dir() else (2, ROOT)
    before = _own_group(version)
    folder = parent / f"lookalike-bench-{os.getpid()}"
    try:
        if folder.is_dir():
            folder.rmdir()  # of an earlier process of this number, which the kernel ended
        folder.mkdir()
        (folder / FILES[version][0]).write_text(str(limit))
        (folder / "cgroup.procs").write_text(str(os.getpid()))
    except OSError as error:
        if folder.is_dir():
            folder.rmdir()
        raise SystemExit(f"{folder}: {error}. A memory limit needs control groups that may be written to.") from error
    try:
        yield MemoryGroup(folder, version)
    finally:
        (before / "cgroup.procs").write_text(str(os.getpid()))
        folder.rmdir()


def _own_group(version: int) -> Path:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, kinds, path = line.split(":", 2)
        if version == 1 and "memory" in kinds.split(","):
            return ROOT / "memory" / path.lstrip("/")
        if version == 2 and kinds == "":
            return ROOT / path.lstrip("/")
    raise SystemExit("/proc/self/cgroup names no memory group")
