"""A new encoder over the whole catalogue, into its own space beside the old one; then a release of it.

**When.** By hand, with the form: the encoder and how many items per second it may take.

**What happens.** `plan` checks the encoder and counts what is to do. `run` announces it: from then on the stream and
the nightly run feed both spaces, so the old one stays fresh until the new one is live. It embeds chunk by chunk and
says in its log how far it is; killed or cleared, it goes on with the chunks that are left. `check` demands a vector for
every item. `release` hands over to `index_release` for that space. Vectors of two spaces are never mixed: gate and
server refuse them.

**When it is live** nothing is left to do: the announcement ends, and nights embed and build in the new space, for they
follow the live release unless the setting `encoder.path` holds them. The old space is fed as long as its release is
`previous`, so that a roll-back finds it fresh; a roll-back takes the nights back with it.

**When a task fails**

- `plan`: the log says what is wrong with the encoder (not found, or it does not reproduce its probe).
- `run`: clear it; finished chunks stay. Searches get slow meanwhile: mark it failed, trigger anew with a lower rate.
- `check`: the log names the failed expectations; clear `run` with everything downstream.
- `release` waits: is `index_release` paused?

**To give it up:** mark the run failed, then `lookalike encoder withdraw`; the old space has not been touched.
"""

from datetime import timedelta

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, Param

from house.rules import HOUSE, late_after
from house.step import Step

ENCODER = "{{ params.encoder }}"

with DAG(
    "reembed",
    description="a new encoder over the whole catalogue, then its release",
    doc_md=__doc__,
    schedule=None,
    tags=["encoder"],
    deadline=late_after(hours=96),
    params={
        "encoder": Param(
            "",
            type="string",
            minLength=1,
            title="Encoder",
            description="folder, hub id (hf-hub:…) or lookalike-mini",
        ),
        "items_per_second": Param(
            0.0, type="number", minimum=0, title="Items per second", description="rate limit; 0: as fast as it goes"
        ),
    },
    **HOUSE,
) as dag:
    plan = Step(
        task_id="plan",
        words=["reembed", "plan", "--encoder", ENCODER],
        doc_md="Check the encoder; count items, vectors that can be taken over, and chunks.",
    )
    run = Step(
        task_id="run",
        words=["reembed", "run", "--encoder", ENCODER, "--items-per-second", "{{ params.items_per_second }}"],
        pool="gpu",
        execution_timeout=timedelta(days=7),
        doc_md="Announce the encoder and fill its space chunk by chunk; the log says how far it is.",
    )
    check = Step(
        task_id="check",
        words=["reembed", "check", "--encoder", ENCODER],
        execution_timeout=timedelta(hours=1),
        doc_md="Every item has its vector in the new space.",
    )
    release = TriggerDagRunOperator(
        task_id="release",
        trigger_dag_id="index_release",
        conf={"encoder": ENCODER},
        execution_timeout=timedelta(minutes=5),
        doc_md="Start `index_release` for the new space.",
    )
    plan >> run >> check >> release
