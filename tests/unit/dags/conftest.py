"""Airflow with a home of its own, set before anything imports it: no test may touch the user's.

DAGs are loaded as Airflow loads them, from the files, without a database.
"""

import os
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DAGS = ROOT / "dags"

_HOME = tempfile.TemporaryDirectory(prefix="airflow-home-")
os.environ.setdefault("AIRFLOW_HOME", _HOME.name)
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
if str(DAGS) not in sys.path:
    sys.path.append(str(DAGS))


@pytest.fixture(scope="session")
def dags():
    """All DAGs by id."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(dag_folder=str(DAGS))
    assert not bag.import_errors, bag.import_errors
    return dict(bag.dags)


class Record:
    """A log that keeps its lines; `on_line` is called with each."""

    def __init__(self, on_line=None):
        self.lines, self._on_line = [], on_line

    def info(self, message, *arguments):
        self.lines.append(message % arguments if arguments else message)
        if self._on_line is not None:
            self._on_line(self.lines[-1])

    warning = error = debug = exception = info


@pytest.fixture
def script_step():
    """Makes a Step whose command is a Python script instead of `lookalike`; with its log."""
    from house.step import Step

    class ScriptStep(Step):
        grace_seconds = 1.0

        def __init__(self, *, script, **kwargs):
            super().__init__(words=[], **kwargs)
            self.script = script

        @property
        def log(self):
            return self.record

        def command(self, words):
            return [sys.executable, "-c", self.script]

    def make(script, on_line=None, **kwargs):
        step = ScriptStep(task_id="script", script=script, **kwargs)
        step.record = Record(on_line)
        return step

    return make
