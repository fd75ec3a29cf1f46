"""Properties of the graph of a release: nothing goes live past a gate, a refusal, or a task that failed.

`finish` is a small scheduler of our own: it follows branches and trigger rules to the end, so that a rule such as
`all_done` behind a gate would be seen to run.
"""

import itertools

import pytest

FAILED = {"failed", "upstream_failed"}
BUILD = ["pin", "train", "encode", "merge"]
BEFORE = [*BUILD, "gate", "compare", "who_decides"]


def may_run(rule, upstream):
    """State of a task whose upstream tasks have all ended: None when it runs."""
    bad, skipped = sum(s in FAILED for s in upstream), sum(s == "skipped" for s in upstream)
    good = sum(s == "success" for s in upstream)
    match rule:
        case "all_success":
            return "upstream_failed" if bad else "skipped" if skipped else None
        case "none_failed_min_one_success":
            return "upstream_failed" if bad else None if good else "skipped"
        case "none_failed":
            return "upstream_failed" if bad else None
        case "one_success":
            return None if good else "upstream_failed" if bad else "skipped"
        case "all_done" | "always" | "all_done_min_one_success" | "all_done_setup_success" | "none_skipped":
            return None
    raise AssertionError(f"{rule}: unknown here; think before you use it in this graph")


def finish(dag, fails=(), branches=None):
    """End state of every task, when `fails` fail and each branching task goes on with `branches[task]`."""
    states, branches = {}, branches or {}
    while len(states) < len(dag.tasks):
        ready = [t for t in dag.tasks if t.task_id not in states and t.upstream_task_ids <= set(states)]
        for task in ready:
            if task.task_id in states:
                continue
            name, rule = task.task_id, str(getattr(task.trigger_rule, "value", task.trigger_rule))
            state = may_run(rule, [states[up] for up in task.upstream_task_ids]) if task.upstream_task_ids else None
            states[name] = state or ("failed" if name in fails else "success")
            if states[name] == "success" and name in branches:
                kept = {branches[name]} | dag.get_task(branches[name]).get_flat_relative_ids(upstream=False)
                for other in set(task.downstream_task_ids) - kept:
                    states[other] = "skipped"
    return states


@pytest.fixture(scope="module")
def release(dags):
    return dags["index_release"]


def test_every_gate_is_upstream_of_promote(release):
    upstream = release.get_task("promote").get_flat_relative_ids(upstream=True)
    gates = {task.task_id for task in release.tasks if getattr(task, "words", [""])[0] in {"gate", "check"}}
    assert gates == {"gate"} and gates <= upstream
    assert {*BEFORE, "ask", "approve", "automatic"} <= upstream
    assert "refuse" not in upstream
    assert release.get_task("verify").get_flat_relative_ids(upstream=True) > {"promote", "gate"}


def test_only_one_task_moves_the_pointer(dags):
    movers = [
        f"{dag.dag_id}.{task.task_id}" for dag in dags.values() for task in dag.tasks
        if getattr(task, "words", [""])[0] in {"promote", "rollback"}
    ]  # fmt: skip
    assert movers == ["index_release.promote"]


CHOICES = [
    {"who_decides": decides, "ask": answer}
    for decides, answer in itertools.product(("automatic", "ask"), ("approve", "refuse"))
]


@pytest.mark.parametrize("branches", CHOICES, ids=str)
@pytest.mark.parametrize("broken", BEFORE)
def test_nothing_runs_after_a_task_that_failed(release, broken, branches):
    states = finish(release, {broken}, branches)
    after = release.get_task(broken).get_flat_relative_ids(upstream=False)
    assert {"promote", "verify"} <= after or broken == "who_decides"
    assert {states[name] for name in after} == {"upstream_failed"}


def test_automatic_promotes_without_a_person(release):
    states = finish(release, branches={"who_decides": "automatic"})
    assert states["promote"] == states["verify"] == "success"
    assert {states[name] for name in ("ask", "approve", "refuse")} == {"skipped"}


def test_an_approved_release_is_promoted(release):
    states = finish(release, branches={"who_decides": "ask", "ask": "approve"})
    assert states["approve"] == states["promote"] == states["verify"] == "success"
    assert states["refuse"] == states["automatic"] == "skipped"


def test_a_refused_release_is_not_promoted_and_its_refusal_is_recorded(release):
    states = finish(release, branches={"who_decides": "ask", "ask": "refuse"})
    assert states["refuse"] == "success"
    assert states["approve"] == states["promote"] == states["verify"] == "skipped"


@pytest.mark.parametrize("broken", ["ask", "approve"])
def test_no_answer_or_no_entry_in_the_ledger_is_no_approval(release, broken):
    states = finish(release, {broken}, {"who_decides": "ask", "ask": "approve"})
    assert states["promote"] == states["verify"] == "upstream_failed"


@pytest.mark.parametrize("dag_id", ["catalogue_nightly", "reembed", "tables_maintenance"])
def test_a_failed_check_ends_the_line(dags, dag_id):
    dag = dags[dag_id]
    for task in dag.tasks:
        states = finish(dag, {task.task_id})
        after = task.get_flat_relative_ids(upstream=False)
        assert all(states[name] == "upstream_failed" for name in after), task.task_id


def test_the_night_in_its_order(dags):
    dag = dags["catalogue_nightly"]
    order = ["ingest", "fold", "check_silver", "embed", "check_embeddings"]
    for before, after in itertools.pairwise(order):
        assert dag.get_task(before).downstream_task_ids == {after}


def test_a_reembed_hands_over_to_the_release(dags):
    release = dags["reembed"].get_task("release")
    assert release.trigger_dag_id == "index_release" and release.conf == {"encoder": "{{ params.encoder }}"}
    assert release.upstream_task_ids == {"check"}
