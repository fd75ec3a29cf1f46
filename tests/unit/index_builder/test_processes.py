"""Bounded processes: what a task raises is raised, what dies is named, and none outlives the others."""

import math
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from index_builder.memory import MemoryPlan, capped, peak_memory, resident
from index_builder.pin import make_pin
from index_builder.processes import run_each
from index_builder.recipes import load_recipe
from lookalike.contracts.errors import LookalikeError, SettingsError
from lookalike.contracts.settings import IndexSettings, Settings

GIB = 2**30
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured and bounded as Linux does")


def children() -> set[int]:
    """Of this process, which multiprocessing's own helper is one of."""
    task = Path(f"/proc/self/task/{os.getpid()}/children")
    named = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in task.read_text().split()}
    return {pid for pid, command in named.items() if b"spawn_main" in command}


def test_every_number_is_answered_and_threads_are_bounded():
    found: list = []
    run_each(math.sqrt, [4, 9, 16], 2, 1, GIB, found.append)
    assert sorted(found) == [2, 3, 4]
    assert children() == set()
    seen: list = []
    run_each(partial(os.getenv, "OMP_NUM_THREADS"), [0], 1, 3, GIB, seen.append)
    assert seen == ["3"] and os.environ.get("OMP_NUM_THREADS") != "3"


def test_what_a_task_raises_ends_all_and_is_told():
    started = time.monotonic()
    with pytest.raises(RuntimeError, match="ValueError"):
        run_each(time.sleep, [600, -1], 2, 1, GIB, print)
    assert time.monotonic() - started < 300
    assert children() == set()


def test_an_interrupted_parent_leaves_nobody():
    def interrupted(_answer) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_each(time.sleep, [0, 600, 600], 3, 1, GIB, interrupted)
    assert children() == set()


def test_a_process_that_is_killed_is_told_with_the_setting():
    with pytest.raises(LookalikeError, match=r"number 9 ended with signal 9 \(SIGKILL\).*index.build_memory_bytes"):
        run_each(signal.raise_signal, [9], 1, 1, GIB, print)


def test_more_memory_than_the_limit_is_refused_with_the_setting():
    with pytest.raises(LookalikeError, match=r"may have 536,870,912 bytes.*Raise index.build_memory_bytes"):
        run_each(bytearray, [GIB], 1, 1, GIB // 2, print)
    found: list = []
    run_each(bytearray, [GIB // 8], 1, 1, GIB // 2, found.append)
    assert len(found[0]) == GIB // 8


def test_children_die_with_a_killed_parent(tmp_path):
    script = (
        "import time\nfrom index_builder.processes import run_each\n"
        "if __name__ == '__main__':\n    run_each(time.sleep, [600, 600], 2, 1, 2**30, print)\n"
    )
    (tmp_path / "run.py").write_text(script)
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "run.py")], env=os.environ | {"PYTHONPATH": str(Path.cwd())}
    )
    listed = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    deadline = time.monotonic() + 120
    born: list[str] = []
    while time.monotonic() < deadline and len(born) < 2:
        born = [pid for pid in listed.read_text().split() if b"spawn_main" in _command(pid)]
        time.sleep(0.1)
    time.sleep(2)  # until they have asked to be told
    parent.kill()
    parent.wait()
    while time.monotonic() < deadline and any(b"spawn_main" in _command(pid) for pid in born):
        time.sleep(0.1)
    assert len(born) == 2 and not any(b"spawn_main" in _command(pid) for pid in born)


def _command(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_the_guard_lets_go_of_its_limit():
    with pytest.raises(LookalikeError, match="it wants more"), capped(resident() + GIB // 8):
        bytearray(GIB)
    assert len(bytearray(GIB // 2)) == GIB // 2
    assert peak_memory() >= resident() > 0


def plan(items_bytes: float = 0.0, **settings: int) -> MemoryPlan:
    recipe = load_recipe("ivf_pq").model_copy(update={"nlist": 65_536})
    return MemoryPlan(IndexSettings(**settings), recipe, 512, items_bytes, words=True)


def test_shards_and_sample_follow_from_the_cap():
    wide = plan(build_memory_bytes=16 * GIB)
    assert wide.train_points() == 64 and wide.shard_items() == 500_000
    wide.require_merge(100_000_000)
    narrow = plan(build_memory_bytes=10 * GIB)
    assert 39 <= narrow.train_points() < 64
    with pytest.raises(SettingsError, match=r"_bytes is .*; training 65,536 lists on 39 vectors each"):
        plan(build_memory_bytes=6 * GIB).train_points()
    with pytest.raises(SettingsError, match=r"tuning the search of 100,000,000 items takes at least"):
        plan(build_memory_bytes=8 * GIB).require_merge(100_000_000)
    least = plan(400.0, build_memory_bytes=16 * GIB, processes=8)
    assert 10_000 < least.shard_items() < 500_000 * 4
    with pytest.raises(SettingsError, match=r"encoding 8 shards at a time takes at least") as told:
        plan(400.0, build_memory_bytes=4 * GIB, processes=8).shard_items()
    needed = int(str(told.value).rsplit(" ", 1)[1].replace(",", ""))
    assert plan(400.0, build_memory_bytes=needed + 8, processes=8).shard_items() >= 10_000


def test_a_pin_cuts_shards_for_the_cap(catalogue, monkeypatch):
    monkeypatch.setattr("index_builder.memory.FEWEST_ITEMS", 10)
    from index_builder import memory

    at = memory.PROCESS_BYTES * 2 + memory.BLOCK_COPIES * memory.BLOCK_ROWS * 4 * 32
    room = int(1_000 * catalogue.source.item_bytes())
    settings = Settings(home=catalogue.settings.home, index=IndexSettings(build_memory_bytes=at + room))
    pin = make_pin(settings, catalogue.source, "exact")
    assert len(pin.shards) in (3, 4)
