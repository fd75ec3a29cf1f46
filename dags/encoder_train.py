"""Train an encoder on the catalogue's own pictures and words, and measure it.

**When.** By hand, with the form. It changes nothing that serves: to use the result, trigger `reembed` with its folder.

**When a task fails**

- `train`: clear it; an unfinished run in the same folder goes on from its last checkpoint. A worker killed for memory:
  a smaller `config`.
- `evaluate`: the encoder is complete; clear it, or by hand `lookalike evaluate --encoder FOLDER`.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param

from house.rules import HOUSE, late_after, option
from house.step import Step

with DAG(
    "encoder_train",
    description="train an encoder and measure it",
    doc_md=__doc__,
    schedule=None,
    tags=["encoder"],
    deadline=late_after(hours=72),
    params={
        "out": Param(
            "",
            type="string",
            minLength=1,
            title="Folder",
            description="of the new encoder, as the worker sees it; an unfinished run there goes on",
        ),
        "config": Param(
            "lookalike_mini",
            type="string",
            minLength=1,
            title="Config",
            description="name in models/configs, or a file",
        ),
        "snapshot": Param(
            None, type=["null", "string"], title="Snapshot", description="id to train on; empty: the newest"
        ),
    },
    **HOUSE,
) as dag:
    train = Step(
        task_id="train",
        words=[
            "train", "--out", "{{ params.out }}", "--config", "{{ params.config }}",
            option("snapshot", "params.snapshot"),
        ],
        pool="gpu",
        execution_timeout=timedelta(days=3),
        doc_md="Train; the log shows step and loss.",
    )  # fmt: skip
    evaluate = Step(
        task_id="evaluate",
        words=["evaluate", "--encoder", "{{ params.out }}"],
        pool="gpu",
        execution_timeout=timedelta(hours=6),
        doc_md="Retrieval figures with 95 % intervals; the report lies below `reports/`.",
    )
    train >> evaluate
