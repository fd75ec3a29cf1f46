"""The nice value of the worker, and of the session that it leads, as the system itself reports it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from pathlib import Path
from beam.courtesy import step_back
step_back(7, Path(sys.argv[1]))
print(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[16])
"""


def nice_value_of_a_process(autogroup, *, leads):
    """What the kernel says of a process after step_back; `leads`: whether it leads a session of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(autogroup)],
        capture_output=True, text=True, start_new_session=leads, check=True,
    )  # fmt: skip
    return int(done.stdout)


@pytest.fixture
def autogroup(tmp_path):
    path = tmp_path / "autogroup"
    path.write_text("untouched")
    return path


def test_a_worker_that_leads_its_session_takes_the_session_along(autogroup):
    before = os.getpriority(os.PRIO_PROCESS, 0)
    assert nice_value_of_a_process(autogroup, leads=True) == min(19, before + 7)
    assert autogroup.read_text() == "7"


def test_the_session_of_others_is_left_alone(autogroup):
    nice_value_of_a_process(autogroup, leads=False)
    assert autogroup.read_text() == "untouched"


def test_where_sessions_are_not_grouped_nothing_fails(tmp_path):
    nice_value_of_a_process(tmp_path / "missing" / "autogroup", leads=True)


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel groups no sessions (autogroup)")
def test_the_kernel_takes_it():
    program = "from beam.courtesy import step_back; step_back(7); print(open('/proc/self/autogroup').read())"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, start_new_session=True, check=True
    )
    assert done.stdout.split()[-1] == "7"
