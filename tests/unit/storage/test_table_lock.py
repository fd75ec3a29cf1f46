"""Two processes and one table: the second waits, says for whom, and goes on when the first ends or is killed."""

import logging
import os
import signal
import subprocess
import sys
import threading

import pytest

from lookalike.storage.table_lock import only_writer

HOLDER = """
import sys, time
from pathlib import Path
from lookalike.storage.table_lock import only_writer
with only_writer(Path(sys.argv[1]), sys.argv[2], "a night"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path), "silver"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def take(folder, table, taken):
    with only_writer(folder, table, "a backfill"):
        taken.set()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_the_second_waits_until_the_first_is_gone(tmp_path, holder, caplog, end):
    caplog.set_level(logging.INFO)
    taken = threading.Event()
    thread = threading.Thread(target=take, args=(tmp_path, "silver", taken))
    thread.start()
    assert not taken.wait(0.5)
    assert f"a night (process {holder.pid}) holds it since" in caplog.text
    os.kill(holder.pid, end)
    assert taken.wait(20)
    thread.join()


def test_another_table_is_free(tmp_path, holder):
    taken = threading.Event()
    take(tmp_path, "embeddings", taken)
    assert taken.is_set()


def test_a_fault_in_the_block_lets_go(tmp_path):
    with pytest.raises(ValueError), only_writer(tmp_path, "silver", "a night"):
        raise ValueError
    taken = threading.Event()
    take(tmp_path, "silver", taken)
    assert taken.is_set()
