"""The kernel's limit of a measurement: a process within it cannot hold more, its files' pages are counted, and the
group is gone afterwards."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")]

BENCH = Path(__file__).parents[3] / "bench"
MIB = 2**20
LIMIT = 96 * MIB
WITHIN = f"""
import json, os, sys
sys.path.insert(0, {str(BENCH)!r})
from pathlib import Path
from memory_group import limited
with limited({LIMIT}) as group:
    print(json.dumps({{"folder": str(group.folder)}}), flush=True)
    %s
    print(json.dumps({{"peak": group.peak, **group.parts}}), flush=True)
print(json.dumps({{"left": not group.folder.exists()}}), flush=True)
"""
HOLDS = "held = bytearray(os.urandom(1)) * {size}"
READS = """
    with Path(sys.argv[1]).open("rb") as file:
        while file.read(1 << 20):
            pass
"""


AFTER_ANOTHER = """
import os, sys
sys.path.insert(0, sys.argv[1])
import memory_group
from pathlib import Path
left = Path(sys.argv[2]) / f"lookalike-bench-{os.getpid()}"
left.mkdir()
print(os.getpid(), flush=True)
with memory_group.limited(int(sys.argv[3])) as group:
    assert group.folder == left
"""


def run(code, *arguments):
    """What a process said, and how it ended; skipped where groups cannot be made."""
    done = subprocess.run(
        [sys.executable, "-c", WITHIN % code, *arguments], capture_output=True, text=True, timeout=120
    )
    missing = re.search(
        r".*needs control groups that may be written to.*|/proc/self/cgroup names no memory group", done.stderr
    )
    if missing:
        pytest.skip(missing[0])
    return [json.loads(line) for line in done.stdout.splitlines()], done


def test_what_fits_is_counted_and_the_group_is_gone_afterwards():
    told, done = run(HOLDS.format(size=LIMIT // 2))
    assert done.returncode == 0, done.stderr
    assert LIMIT // 2 <= told[1]["anonymous"] <= told[1]["peak"] <= LIMIT
    assert told[2] == {"left": True} and not Path(told[0]["folder"]).exists()


def test_what_does_not_fit_ends_the_process():
    told, done = run(HOLDS.format(size=2 * LIMIT))
    assert done.returncode == -signal.SIGKILL
    assert len(told) == 1  # it never came to hold it
    Path(told[0]["folder"]).rmdir()


def test_pages_of_files_are_part_of_it_and_give_way(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(os.urandom(MIB) * (2 * LIMIT // MIB))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    told, done = run(READS, str(path))
    assert done.returncode == 0, done.stderr
    assert LIMIT // 2 < told[1]["cache"] <= told[1]["peak"] <= LIMIT


@pytest.mark.parametrize(("limit", "said"), [(LIMIT, ""), (-5, "memory limit")])
def test_a_group_that_a_killed_process_left_is_in_nobodys_way_and_one_that_fails_is_not_left(limit, said):
    told, _ = run("pass")
    parent = Path(told[0]["folder"]).parent
    command = [sys.executable, "-c", AFTER_ANOTHER, str(BENCH), str(parent), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert said in done.stderr and (done.returncode == 0) == (not said), done.stderr
    assert not (parent / f"lookalike-bench-{done.stdout.strip()}").exists()
