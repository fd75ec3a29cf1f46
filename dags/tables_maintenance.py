"""Keep tables and releases small: compact, forget old versions, remove old releases; on request replay refused rows.

**When.** Daily at 04:00 UTC. By hand with the form, for the replay.

**What it never touches.** A table version that `live`, `previous`, `candidate` or a build under way pins stays
readable, and so does every release with an alias. What is removed is in the ledger (`removed`). To see what would go:
`lookalike tables maintain --dry-run`, `lookalike releases prune --dry-run`.

**When a task fails:** clear it; both may be killed at any time. A table that grows all the same has a pin that does not
move: `lookalike releases` shows which release is old.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, task

from house.rules import HOUSE, late_after, option
from house.step import Step

with DAG(
    "tables_maintenance",
    description="compact and clean tables, remove old releases",
    doc_md=__doc__,
    schedule="0 4 * * *",
    tags=["maintenance"],
    deadline=late_after(hours=6),
    params={
        "replay_refused": Param(
            False, type="boolean", title="Replay refused rows", description="after a fix: send them again, each once"
        ),
        "reason": Param(
            None, type=["null", "string"], title="Reason", description="only rows refused for it; empty: all of them"
        ),
    },
    **HOUSE,
) as dag:
    maintain = Step(
        task_id="maintain",
        words=["tables", "maintain"],
        pool="tables",
        execution_timeout=timedelta(hours=4),
        doc_md="Compaction, and removal of what no pinned version needs.",
    )
    prune = Step(
        task_id="prune",
        words=["releases", "prune"],
        doc_md="Releases beyond the kept number that no alias names, builds and reports that nothing needs.",
    )

    @task.short_circuit(task_id="replay_asked", doc_md="Only when the form asks for it.")
    def replay_asked(**context: Any) -> bool:
        """Whether the form asks for the replay."""
        return bool(context["params"]["replay_refused"])

    replay = Step(
        task_id="replay",
        words=["refused", "replay", option("reason", "params.reason"), "{{ '' if params.reason else '--all' }}"],
        doc_md="Refused rows to the stream again; what is still wrong is refused again.",
    )
    maintain >> prune >> replay_asked() >> replay
