"""Memory of a build: what fits under its cap, and a guard for when that was reckoned wrong.

Shards are cut, and the training sample is drawn, as large as the cap allows. The figures are upper bounds of what the
system measures (VmHWM), and a test holds them against it. A process that asks for more is refused by the system.
"""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from index_builder.costs import ROW_NUMBER_BYTES, estimate, list_bytes
from lookalike.contracts.errors import LookalikeError, SettingsError
from lookalike.contracts.manifest import IndexRecipe
from lookalike.contracts.settings import IndexSettings

SETTING = "index.build_memory_bytes"
MIB = 2**20
PROCESS_BYTES = 704 * MIB
"""An interpreter with its engines (some 280 MiB), and the row groups of a table that are on their way."""
WORDS_BYTES = 512 * MIB
"""An encoder that reads words, with torch."""
BLOCK_COPIES, BLOCK_ROWS = 8, 8_192
"""Of vectors on their way, while they are compared with the questions and encoded."""
CENTRE_COPIES = 5
"""Of the list centres and their images, while they are moved in double precision."""
GROUPED_BYTES = 320
"""Of a list centre in its group."""
TRIAL_ROWS, TRIAL_COPIES = 65_536, 4
"""Of the sample that codes are tried on: its rows, their images, and codes of these."""
TEXT_SAMPLE, TEXT_COPIES = 16_384, 2
"""Titles that axes are made for, as vectors."""
RESERVED_BYTES = 256 * MIB
"""Stacks of threads and buffers of OpenBLAS: asked for, and hardly ever used."""
ROW_BYTES = 640
"""Id, hash and title of a row of the sample, while they are read, sorted and joined. Not measured, as items of a shard
are: the index depends on how many rows are trained on, and must not depend on which item was looked at."""
GROWTH = 2.0
"""Lists grow by doubling."""
FEWEST_PER_LIST = 39
"""Vectors that a list is trained on at least: faiss's own guideline."""
FEWEST_ITEMS = 10_000
"""A shard has more, or all there are."""


class MemoryPlan:
    """What one recipe takes for vectors of `dim` dimensions, of items of which a shard keeps `item_bytes` each."""

    def __init__(self, settings: IndexSettings, recipe: IndexRecipe, dim: int, item_bytes: float, words: bool) -> None:
        self._settings, self._recipe, self._dim, self._item_bytes = settings, recipe, dim, item_bytes
        self._nlist = recipe.nlist or 0
        self._process = PROCESS_BYTES + (WORDS_BYTES if words else 0)
        self._blocks = BLOCK_COPIES * BLOCK_ROWS * 4 * dim
        self._centres = self._nlist * (8 * dim + GROUPED_BYTES)
        self._code = list_bytes(recipe, dim) + ROW_NUMBER_BYTES if self._nlist else 0
        self._list = self._code * 32 + 128  # codes come in blocks of 32

    def shard_items(self) -> int:
        """Items of a shard, as the setting says or fewer. Raises SettingsError."""
        each = self._item_bytes + (GROWTH + 1) * self._code  # and once more, packed
        fixed = PROCESS_BYTES + self._blocks + self._centres + self._nlist * self._list
        processes = processes_of(self._settings)
        room = (self._settings.build_memory_bytes - self._process) / processes - fixed  # beside the one that waits
        if room < FEWEST_ITEMS * each:
            least = self._process + processes * int(fixed + FEWEST_ITEMS * each)
            raise _too_little(self._settings, least, f"encoding {processes} shards at a time")
        return min(self._settings.shard_items, int(room / each))

    def train_points(self) -> int:
        """Vectors per list that are trained on, as the recipe says or fewer. Raises SettingsError."""
        each = 4 * self._dim + ROW_BYTES
        trial = TRIAL_COPIES * TRIAL_ROWS + TEXT_COPIES * TEXT_SAMPLE
        fixed = self._process + self._blocks + CENTRE_COPIES * self._centres + trial * 4 * self._dim
        points = int((self._settings.build_memory_bytes - fixed) / (each * max(self._nlist, 1)))
        if self._nlist and points < FEWEST_PER_LIST:
            least = int(fixed + FEWEST_PER_LIST * self._nlist * each) + 1
            raise _too_little(
                self._settings, least, f"training {self._nlist:,} lists on {FEWEST_PER_LIST} vectors each"
            )
        return min(self._recipe.train_points_per_list, points)

    def require_merge(self, items: int) -> None:
        """Raises SettingsError unless the finished index can be opened, which tuning does, or built in one piece."""
        if self._nlist:
            index = self._centres + int(1.25 * self._code * items) + self._nlist * self._list
        else:
            index = estimate(self._recipe, items, self._dim).memory_bytes
        least = self._process + self._blocks + 4 * 64 * MIB + index
        if least > self._settings.build_memory_bytes:
            raise _too_little(self._settings, least, f"tuning the search of {items:,} items")


def processes_of(settings: IndexSettings) -> int:
    """Shards that are encoded at a time."""
    return settings.processes or cores()


def cores() -> int:
    """Processors that this process may use."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdecimal() and int(told):
        return int(told)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resident() -> int:
    """Bytes that this process has in memory; 0 where the system does not tell."""
    return _status("VmRSS")


def peak_memory() -> int:
    """Most bytes that this process had in memory so far, as the system measures it."""
    # What getrusage tells includes the process that this one was forked from.
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def capped(limit: int) -> Iterator[None]:
    """Let this process have `limit` bytes, or little more, within the block; wanting more raises LookalikeError."""
    taken = resident()
    if not taken:  # no Linux: the figures of the plan alone hold the cap
        yield
        return
    if taken >= limit:
        raise LookalikeError(_over(limit, f"the process has {taken:,} already"))
    pool, before = pa.default_memory_pool(), resource.getrlimit(resource.RLIMIT_DATA)
    pa.set_memory_pool(pa.system_memory_pool())  # others reserve a GiB before they need it
    data = _status("VmData") + limit - taken + RESERVED_BYTES
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (_lesser(data, before[0]), before[1]))
        yield
    except MemoryError as error:
        raise LookalikeError(_over(limit, f"it wants more: {error}")) from error
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
        pa.set_memory_pool(pool)


def _over(limit: int, what: str) -> str:
    return (
        f"this step may have {limit:,} bytes of memory, its share of {SETTING}, but {what}. Raise {SETTING}, or lower "
        "index.processes or index.shard_items and pin the build again"
    )


def _too_little(settings: IndexSettings, least: int, what: str) -> SettingsError:
    return SettingsError(f"{SETTING} is {settings.build_memory_bytes:,}; {what} takes at least {least:,}")


def _lesser(wanted: int, limit: int) -> int:
    return wanted if limit == resource.RLIM_INFINITY else min(wanted, limit)


def _status(name: str) -> int:
    """Bytes that /proc tells of this process under that name; 0 where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")]
    return found[0] if found else 0
