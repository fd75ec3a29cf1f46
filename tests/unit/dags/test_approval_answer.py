"""The question to a person: who answered goes on, and the branch follows the answer."""

from datetime import UTC, datetime

import pytest


class Instance:
    """What the operator asks of a task instance; keeps what it is told."""

    def __init__(self, task):
        self.task, self.map_index, self.pushed = task, -1, {}

    def xcom_push(self, key, value):
        self.pushed[key] = value


@pytest.fixture
def ask(dags):
    operator = dags["index_release"].get_task("ask")
    return operator, Instance(operator)


def event(option, user, comment=""):
    return {
        "chosen_options": [option],
        "params_input": {"comment": comment},
        "responded_at": datetime(2026, 11, 23, tzinfo=UTC),
        "responded_by_user": user,
    }


@pytest.mark.parametrize(("option", "skipped"), [("Approve", "refuse"), ("Refuse", "approve")])
def test_the_answer_is_kept_before_the_branch_is_followed(ask, option, skipped):
    # Airflow leaves a branch by an exception: what is kept after it would never be.
    from airflow.sdk.exceptions import DownstreamTasksSkipped

    operator, instance = ask
    given = event(option, {"id": "7", "name": "ada"}, "no shoes")
    with pytest.raises(DownstreamTasksSkipped) as raised:
        operator.execute_complete({"ti": instance}, given)
    assert instance.pushed["answer"] == {"answer": option, "by": "ada", "comment": "no shoes"}
    assert [task for task, _ in raised.value.tasks] == [skipped]


def test_an_answer_that_is_no_option_is_refused(ask):
    operator, instance = ask
    with pytest.raises(ValueError, match="not in"):
        operator.execute_complete({"ti": instance}, event("Perhaps", None))
    assert not instance.pushed


def test_no_answer_in_time_fails(ask):
    from airflow.providers.standard.exceptions import HITLTimeoutError

    operator, instance = ask
    with pytest.raises(HITLTimeoutError):
        operator.execute_complete({"ti": instance}, {"error": "too late", "error_type": "timeout"})
    assert not instance.pushed


@pytest.mark.parametrize(
    ("setting", "asked", "expected"),
    [("automatic", False, "automatic"), ("person", False, "ask"), ("automatic", True, "ask")],
)
def test_the_setting_decides_and_a_run_may_ask_for_more(dags, monkeypatch, setting, asked, expected):
    monkeypatch.setenv("LOOKALIKE_RELEASE__APPROVAL", setting)
    decide = dags["index_release"].get_task("who_decides").python_callable
    assert decide(params={"ask": asked}) == expected


def test_wrong_settings_fail_for_good_with_their_message(dags, monkeypatch):
    from airflow.sdk.exceptions import AirflowFailException

    monkeypatch.setenv("LOOKALIKE_RELEASE__APPROVAL", "nobody")
    with pytest.raises(AirflowFailException, match="LOOKALIKE_RELEASE__APPROVAL"):
        dags["index_release"].get_task("who_decides").python_callable(params={"ask": False})


def test_a_table_of_figures_reads_as_markdown():
    from house.markdown import as_markdown

    text = as_markdown({"version": 7, "checks": [{"name": "a|b", "passed": True}, {"name": "c"}], "notes": ["x"]})
    assert text == (
        "- **version**: 7\n\n**checks**\n\n| name | passed |\n| --- | --- |\n| a\\|b | True |\n| c |  |\n\n"
        "**notes**\n\n- x"
    )
