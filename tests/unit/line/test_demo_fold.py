"""The demo folds what a stream archived on its home, between ingest and embed, and says nothing where there is none."""

from types import SimpleNamespace

import pytest

import lookalike.line.fold
import spark.fold
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import Settings
from lookalike.line import demo


@pytest.mark.parametrize("waiting", [0, 3])
def test_fold_is_a_step_where_changes_wait(tmp_path, monkeypatch, waiting):
    folded = []
    monkeypatch.setattr(spark.fold, "pending", lambda settings: waiting)
    monkeypatch.setattr(
        lookalike.line.fold, "fold", lambda *given: folded.append(given) or SimpleNamespace(changes=3, items=2)
    )
    line = demo._Line(Settings(home=tmp_path), LogProgress(), lambda text: None)
    line.fold()
    assert bool(folded) == bool(waiting)
    assert [(step.name, step.what) for step in line.report.steps] == (
        [("fold", "3 changes of 2 items")] if waiting else []
    )


def test_fold_stands_between_ingest_and_embed(tmp_path, monkeypatch):
    called = []

    class Enough(Exception):
        pass

    for name in ("prepare", "catalogue", "ingest", "fold", "embed"):
        monkeypatch.setattr(
            demo._Line, name, lambda self, *_, name=name: called.append(name) or SimpleNamespace(folder=None)
        )

    def stop():
        raise Enough

    monkeypatch.setattr(demo, "_stop_spark", stop)
    with pytest.raises(Enough):
        demo.run_demo(Settings(home=tmp_path), LogProgress(), print, None, False)
    assert called == ["prepare", "catalogue", "ingest", "fold", "embed"]
