"""The words that each task hands to `lookalike`, rendered as Airflow renders them."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

ANSWERS = {
    ("pin", "build"): "b1",
    ("merge", "return_value"): {"version": 7},
    ("ask", "answer"): {"answer": "Approve", "by": "Ada L.", "comment": "better shoes"},
    ("compare", "return_value"): {"verdict": "passed", "metrics": [{"name": "mrr", "candidate": 0.51, "live": 0.5}]},
}
NIGHT = datetime(2026, 11, 20, tzinfo=UTC)


class Instance:
    def xcom_pull(self, task_ids, key="return_value"):
        return ANSWERS[task_ids, key]


def context(dag, params, interval_start):
    from airflow.sdk import macros

    defaults = {name: param.value for name, param in dag.params.items()}
    run = SimpleNamespace(data_interval_start=interval_start, run_after=datetime(2026, 11, 21, 9, tzinfo=UTC))
    return {"params": defaults | params, "dag_run": run, "ti": Instance(), "macros": macros}


def rendered_words(dags, name, params=None, interval_start=NIGHT, each=None):
    dag_id, task_id = name.split(".")
    dag = dags[dag_id]
    task = dag.get_task(task_id)
    words = task.partial_kwargs["words"] if hasattr(task, "partial_kwargs") else task.words
    values = context(dag, params or {}, interval_start) | {"task": SimpleNamespace(each=each)}
    words = task.render_template(words, values, dag.get_template_env())
    return [str(word) for word in words if word]


def rendered(*arguments, **named):
    return " ".join(rendered_words(*arguments, **named))


ENCODER = {"encoder": "/enc"}
WORDS = [
    ("catalogue_nightly.ingest", {}, "ingest --night 2026-11-20"),
    ("catalogue_nightly.ingest", {"night": "2026-11-02", "must": True}, "ingest --night 2026-11-02 --must"),
    ("catalogue_nightly.fold", {}, "fold"),
    ("catalogue_nightly.check_silver", {}, "check silver"),
    ("catalogue_nightly.embed", {}, "embed"),
    ("catalogue_nightly.check_embeddings", {}, "check embeddings"),
    ("index_release.pin", {}, "index pin"),
    ("index_release.pin", ENCODER, "index pin --encoder=/enc"),
    ("index_release.train", {}, "index train --build b1"),
    ("index_release.merge", {}, "index merge --build b1"),
    ("index_release.gate", {}, "gate 7"),
    ("index_release.compare", {}, "compare 7"),
    ("index_release.approve", {}, "approve 7 --by Ada L. --comment=better shoes"),
    ("index_release.refuse", {}, "refuse 7 --by Ada L. --comment=better shoes"),
    ("index_release.promote", {}, "promote 7"),
    ("index_release.verify", {}, "verify 7 --or-rollback"),
    ("reembed.plan", ENCODER, "reembed plan --encoder /enc"),
    ("reembed.run", ENCODER | {"items_per_second": 50}, "reembed run --encoder /enc --items-per-second 50"),
    ("reembed.check", ENCODER, "reembed check --encoder /enc"),
    ("encoder_train.train", {"out": "/o"}, "train --out /o --config lookalike_mini"),
    ("encoder_train.evaluate", {"out": "/o"}, "evaluate --encoder /o"),
    ("feedback_daily.report", {}, "feedback --day 2026-11-20"),
    ("feedback_daily.report", {"day": "2026-03-01"}, "feedback --day 2026-03-01"),
    ("tables_maintenance.maintain", {}, "tables maintain"),
    ("tables_maintenance.prune", {}, "releases prune"),
    ("tables_maintenance.replay", {}, "refused replay --all"),
    ("tables_maintenance.replay", {"reason": "picture_unavailable"}, "refused replay --reason=picture_unavailable"),
    ("stream_health.health", {}, "stream health"),
]


@pytest.mark.parametrize(("task", "params", "expected"), WORDS, ids=lambda value: str(value)[:40])
def test_words(dags, task, params, expected):
    assert rendered(dags, task, params) == expected


def test_each_shard_is_a_task(dags):
    assert rendered(dags, "index_release.encode", each=3) == "index encode 3 --build b1"
    encode = dags["index_release"].get_task("encode")
    [(mapped, source)] = encode.expand_input.value.items()
    assert mapped == "each" and source.operator.task_id == "pin" and source.key == "return_value"


def test_a_run_by_hand_without_an_interval_is_about_yesterday(dags):
    assert rendered(dags, "catalogue_nightly.ingest", interval_start=None) == "ingest --night 2026-11-20"


def test_no_comment_is_no_option(dags, monkeypatch):
    monkeypatch.setitem(ANSWERS, ("ask", "answer"), {"answer": "Approve", "by": "x", "comment": ""})
    assert rendered(dags, "index_release.approve") == "approve 7 --by x"


def test_all_words_are_covered(dags):
    covered = {name for name, _, _ in WORDS} | {"index_release.encode"}
    steps = {
        f"{dag.dag_id}.{task.task_id}" for dag in dags.values() for task in dag.tasks if task.task_type == "Step"
    }  # fmt: skip
    assert steps == covered


def test_the_question_shows_verdict_and_figures(dags):
    dag = dags["index_release"]
    ask = dag.get_task("ask")
    values = context(dag, {}, NIGHT)
    body = ask.render_template(ask.body, values, dag.get_template_env())
    assert "Release **7**" in body and "**verdict**: passed" in body
    assert "| name | candidate | live |" in body and "| mrr | 0.51 | 0.5 |" in body
    assert ask.render_template(ask.subject, values, dag.get_template_env()) == "Release 7: go live?"


@pytest.mark.parametrize(("task", "params"), [each[:2] for each in WORDS], ids=lambda value: str(value)[:40])
def test_the_command_line_takes_these_words(dags, task, params):
    import typer

    from lookalike.cli.main import app

    words = rendered_words(dags, task, params)
    command = typer.main.get_command(app)
    context = command.make_context("lookalike", [], resilient_parsing=True)
    while getattr(command, "commands", None):
        name, command, words = command.resolve_command(context, words)
        context = command.make_context(name, list(words), parent=context, resilient_parsing=False)
        words = [*context._protected_args, *context.args]
    assert not words
