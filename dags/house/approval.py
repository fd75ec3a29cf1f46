"""A person says yes or no to a release: the question in Airflow's UI, and who answered it."""

from collections.abc import Sequence
from typing import Any

from airflow.providers.standard.operators.hitl import HITLBranchOperator, HITLOperator
from airflow.sdk import Context

APPROVE, REFUSE = "Approve", "Refuse"
ANSWER = "answer"


class Approval(HITLBranchOperator):
    """Asks, waits without a worker, then goes on with the task of the answer.

    It leaves the XCom `answer`: {"answer", "by", "comment"}. Airflow's own operators forget the person; and a branch
    that skips a task ends by an exception, so that what it would return is lost.
    """

    def __init__(self, *, on_approve: str, on_refuse: str, **kwargs: Any) -> None:
        super().__init__(
            options=[APPROVE, REFUSE],
            options_mapping={APPROVE: on_approve, REFUSE: on_refuse},
            **kwargs,
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> None:
        """The answer has come: keep it, then follow it."""
        response = HITLOperator.execute_complete(self, context, event)
        chosen = response["chosen_options"][0]
        user = response["responded_by_user"] or {}
        answer = {
            "answer": chosen,
            "by": str(user.get("name") or user.get("id") or "unknown"),
            "comment": str(response["params_input"].get("comment") or ""),
        }
        context["ti"].xcom_push(ANSWER, answer)
        self.do_branch(context, [self.options_mapping[chosen]])


def as_markdown(document: Any) -> str:
    """An answer of a verb for people: single values as a list, lists of records as tables."""
    if not isinstance(document, dict):
        return f"- {document}"
    plain = {key: value for key, value in document.items() if not isinstance(value, list | dict)}
    blocks = ["\n".join(f"- **{_words(key)}**: {_cell(value)}" for key, value in plain.items())]
    for key, value in document.items():
        if isinstance(value, dict) and value:
            blocks.append(f"**{_words(key)}**\n\n{as_markdown(value)}")
        elif isinstance(value, list) and value:
            blocks.append(f"**{_words(key)}**\n\n{_table(value) if isinstance(value[0], dict) else _lines(value)}")
    return "\n\n".join(block for block in blocks if block)


def _table(rows: Sequence[Any]) -> str:
    columns = list(dict.fromkeys(key for row in rows if isinstance(row, dict) for key in row))
    head = [f"| {' | '.join(_words(column) for column in columns)} |", "|" + " --- |" * len(columns)]
    body = [f"| {' | '.join(_cell(row.get(column)) for column in columns)} |" for row in rows if isinstance(row, dict)]
    return "\n".join(head + body)


def _lines(values: Sequence[Any]) -> str:
    return "\n".join(f"- {_cell(value)}" for value in values)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(_cell(each) for each in value)
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _words(key: str) -> str:
    return key.replace("_", " ")
