"""A person says yes or no to a release: the question in Airflow's UI, and who answered it."""

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
