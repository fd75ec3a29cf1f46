"""From tables to a release that answers: build, gate, approve, promote, verify, or go back by itself.

**When.** Whenever `catalogue_nightly` has published `lookalike_embeddings`; after `reembed`, for the new encoder's
space; or by hand. One run at a time: events that come meanwhile become one next run.

**Path.** `pin` fixes table versions, space and recipe (the same inputs are the same build: a killed run goes on where
it was) → `train` trains the quantiser or takes that of the live release → `encode`, one task per shard → `merge` seals
the index and registers it as `candidate` → `gate` measures it against exact search, labels, the live release and
budgets → `compare` lays it beside the live release, with a contact sheet of the queries that changed most → approval →
`promote` moves the alias `live` → `verify` waits for every server, searches with canaries, and moves `live` back when
they do not hold.

**Approval.** The setting `release.approval`: `automatic`, or `person`. A person finds the question under *Required
actions*, with the verdict, the contact sheet itself and all figures, there and in the run afterwards; the answer, the
name and the comment go into the ledger. *Refuse* ends the run; the release stays `candidate` and can no longer be
promoted on this verdict. Unanswered for three days, the task fails and nothing moves. Where nobody is asked, the button
*Contact sheet* of the task `compare` shows it.

**When a task fails**

- `gate`: the log names each check that failed, with what was observed and its bar. Nothing changes for searchers, and
  no task after it can run. See the evidence below `reports/`; mend the cause and trigger a new run.
- `promote`: the version has no passed verdict for exactly these files, or was refused.
- `verify`: `live` is back at the release before; the log names the server or the search that did not hold.
- `encode`, `merge`: clear them; finished shards stay.

**By hand, at any time, without Airflow:** `lookalike rollback`. What was live when, and why: `lookalike releases --at
2026-11-01T12:00Z`.
"""

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Label, Param, TriggerRule, task
from airflow.sdk.exceptions import AirflowFailException

from house.approval import Approval
from house.contact_sheet import ContactSheetLink, comparison
from house.rules import EMBEDDINGS, HOUSE, answer_of, late_after, option
from house.step import Step
from lookalike.contracts.errors import SettingsError
from lookalike.contracts.settings import load_settings

BUILD = "{{ ti.xcom_pull(task_ids='pin', key='build') }}"
VERSION = answer_of("merge", "version")
QUESTION = """Release **{{ ti.xcom_pull(task_ids='merge')['version'] }}** has passed its gate. Shall it go live?

{{ comparison(ti.xcom_pull(task_ids='compare')) }}
"""

with DAG(
    "index_release",
    description="build, gate, approve, promote and verify a release",
    doc_md=__doc__,
    schedule=[EMBEDDINGS],
    tags=["index"],
    deadline=late_after(hours=12),
    user_defined_macros={"comparison": comparison},
    params={
        "encoder": Param(
            None,
            type=["null", "string"],
            title="Encoder",
            description="folder or hub id whose space is built; empty: the configured encoder",
        ),
        "ask": Param(
            False, type="boolean", title="Ask a person", description="for this run, whatever `release.approval` says"
        ),
    },
    **HOUSE,
) as dag:
    pin = Step(
        task_id="pin",
        words=["index", "pin", option("encoder", "params.encoder")],
        maps="shards",
        pool="index",
        doc_md="Fix what is built: table versions, space, recipe, shards.",
    )
    train = Step(
        task_id="train",
        words=["index", "train", "--build", BUILD],
        pool="index",
        execution_timeout=timedelta(hours=6),
        doc_md="Train the quantiser, or take that of the live release while lists and drift allow.",
    )
    encode = Step.partial(
        task_id="encode",
        words=["index", "encode", "{{ task.each }}", "--build", BUILD],
        pool="index",
        execution_timeout=timedelta(hours=6),
        map_index_template="shard {{ task.each }}",
        doc_md="One shard of the index; a finished one is not done again.",
    ).expand(each=pin.output)
    merge = Step(
        task_id="merge",
        words=["index", "merge", "--build", BUILD],
        pool="index",
        execution_timeout=timedelta(hours=6),
        doc_md="Seal the index and register it as `candidate`, once.",
    )
    gate = Step(
        task_id="gate",
        words=["gate", VERSION],
        execution_timeout=timedelta(hours=4),
        doc_md="Measure the candidate; the verdict is kept with its evidence.",
    )
    compare = Step(
        task_id="compare",
        words=["compare", VERSION],
        links=[ContactSheetLink()],
        doc_md="Candidate against live: figures, verdict, contact sheet of the queries that changed most.",
    )

    @task.branch(task_id="who_decides", doc_md="`release.approval`: nobody is asked, or a person is.")
    def who_decides(**context: Any) -> str:
        """The task that comes next."""
        try:
            person = load_settings().release.approval == "person"
        except SettingsError as error:
            raise AirflowFailException(str(error)) from error
        return "ask" if person or context["params"]["ask"] else "automatic"

    decides = who_decides()
    automatic = EmptyOperator(task_id="automatic", doc_md="The gate's word is enough.")
    ask = Approval(
        task_id="ask",
        subject=f"Release {VERSION}: go live?",
        body=QUESTION,
        on_approve="approve",
        on_refuse="refuse",
        params={"comment": Param("", type="string", title="Comment", description="kept in the ledger")},
        response_timeout=timedelta(days=3),
        # Who did not answer in time is told by the failure, not asked again.
        retries=0,
        # The waiting has its own limit above; a time-out of execution would count against it.
        execution_timeout=None,
        doc_md="A person decides, under *Required actions*.",
    )
    by = "{{ ti.xcom_pull(task_ids='ask', key='answer')['by'] }}"
    comment = option("comment", "ti.xcom_pull(task_ids='ask', key='answer')['comment']")
    approve = Step(
        task_id="approve",
        words=["approve", VERSION, "--by", by, comment],
        doc_md="Who said yes, into the ledger.",
    )
    refuse = Step(
        task_id="refuse",
        words=["refuse", VERSION, "--by", by, comment],
        doc_md="Who said no, into the ledger; the run ends here and the release stays `candidate`.",
    )
    promote = Step(
        task_id="promote",
        words=["promote", VERSION],
        # One of two paths leads here. Neither a failed nor a refused release has one of them done.
        trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
        doc_md="Move the alias `live`.",
    )
    verify = Step(
        task_id="verify",
        words=["verify", VERSION, "--or-rollback"],
        execution_timeout=timedelta(hours=1),
        doc_md="Every server serves it and canary searches hold; else `live` goes back.",
    )

    pin >> train >> encode >> merge >> gate >> compare >> decides
    decides >> Label("automatic") >> automatic >> promote
    decides >> Label("a person") >> ask
    ask >> Label("yes") >> approve >> promote
    ask >> Label("no") >> refuse
    promote >> verify
