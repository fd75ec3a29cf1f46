"""The real command, killed with SIGKILL right after a commit, and run again: the same rows as undisturbed."""

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from lookalike.contracts.change import Topic
from lookalike.contracts.feedback import Click, Impression, new_search_id
from lookalike.contracts.settings import Settings
from lookalike.contracts.tables import CLICKS, IMPRESSIONS, ONLINE_REPORT
from lookalike.storage.delta import DeltaTables
from lookalike.storage.log.port import Message
from lookalike.storage.log.sqlite import SqliteLog

pytestmark = pytest.mark.slow
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
KILLED_AFTER = """
import os, signal, sys
from lookalike.storage.delta import DeltaTables
append, left = DeltaTables.append, int(sys.argv.pop(1))
def killing(*arguments):
    global left
    done = append(*arguments)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return done
DeltaTables.append = killing
from lookalike.cli.main import main
main()
"""


def messages():
    """The same in every home."""
    for number in range(40):
        at = NOON + timedelta(seconds=number)
        search_id = new_search_id(int(at.timestamp() * 1000), kept=True)
        yield Impression(
            search_id=search_id, release="1", query_kind="words", start=0, items=("a", "b"), filters=(), k=24
        )
        if number % 3 == 0:
            yield Click(search_id=search_id, item_id="b", event="click", at=at + timedelta(seconds=5))


@pytest.fixture(scope="module")
def sent():
    return [Message(each.search_id.encode(), each.encode()) for each in messages()]


@pytest.fixture
def home(tmp_path, sent):
    def make(name):
        settings = Settings(home=tmp_path / name)
        log = SqliteLog(settings.log_path, settings.log.partitions, 1e6)
        log.append(Topic.FEEDBACK, sent)
        log.close()
        return settings

    return make


def command(settings, program, *arguments):
    words = [sys.executable, *program, *arguments, "--home", str(settings.home), "--json", "feedback"]
    return subprocess.run([*words, "--day", "2026-03-10"], capture_output=True, text=True, timeout=300)


def rows(settings):
    """All rows of all three tables, without what the log says of its own times."""
    tables = DeltaTables(settings.tables_root)
    found = {each.name: tables.read(each).to_pylist() for each in (IMPRESSIONS, CLICKS, ONLINE_REPORT)}
    for row in found["clicks"]:
        del row["received_at"]
    return {name: sorted(map(str, each)) for name, each in found.items()}


@pytest.mark.parametrize("commits", [1, 2, 5])
def test_killed_after_a_commit_and_run_again_it_has_the_same_rows(home, commits):
    undisturbed, disturbed = home("undisturbed"), home("disturbed")
    done = command(undisturbed, ("-m", "lookalike.cli"))
    assert done.returncode == 0, done.stderr
    killed = command(disturbed, ("-c", KILLED_AFTER), str(commits))
    assert killed.returncode == -signal.SIGKILL
    again = command(disturbed, ("-m", "lookalike.cli"))
    assert again.returncode == 0, again.stderr
    assert rows(disturbed) == rows(undisturbed)
    (row,) = json.loads(again.stdout)["reports"][1]["rows"]
    assert (row["impressions"], row["clicked"], row["mrr_first_click"]) == (40, 14, 0.5)
