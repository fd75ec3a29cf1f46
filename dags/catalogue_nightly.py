"""One night of the catalogue: its snapshot into the tables, checked, and vectors for what changed.

**When.** Daily at 00:00 UTC for the day that has just ended: the *night* of a run is the UTC day on which its data
interval starts. By hand: *Trigger*, and name the night if it is not yesterday. For many nights:
`airflow backfill create --dag-id catalogue_nightly --from-date 2026-11-01 --to-date 2026-11-07`, or without Airflow
`lookalike backfill --from 2026-11-01 --to 2026-11-07`. Nights commute: any order and any repetition gives the same
rows, and a past night never overwrites newer ones.

**What it leaves.** Rows in `silver`, vectors in `embeddings`, and the asset `lookalike_embeddings`, which starts
`index_release`. A night without a snapshot ends well with nothing to do, once an earlier one has made the tables.

**When a task fails**

- `ingest`: the log names the snapshot and the row. Refused rows do not fail it; `lookalike refused list` shows them.
- `check_silver`, `check_embeddings`: the log names each failed expectation with what was observed. Nothing has reached
  searchers. Mend the source, bring a new snapshot, and clear `ingest` with everything downstream.
- `embed`: out of memory or a lost worker: clear it; what is embedded already is not done again.
- waits long: another writer holds the table; the log says which, the pool `tables` shows who.
"""

from datetime import timedelta

from airflow.sdk import DAG, BaseOperator, CronDataIntervalTimetable, Param

from house.rules import EMBEDDINGS, HOUSE, day_of_run, late_after, spark_is_a_cluster
from house.step import Step

with DAG(
    "catalogue_nightly",
    description="a night's snapshot into silver, and vectors for what changed",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    tags=["catalogue"],
    deadline=late_after(hours=8),
    params={
        "night": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Night",
            description="UTC day of the snapshot, YYYY-MM-DD; empty: the day of the run's data interval",
        ),
        "must": Param(False, type="boolean", title="Must exist", description="fail when the night has no snapshot"),
    },
    **HOUSE,
) as dag:
    ingest = Step(
        task_id="ingest",
        words=["ingest", "--night", day_of_run("night"), "{{ '--must' if params.must else '' }}"],
        pool="tables",
        doc_md="The snapshot of the night into bronze and silver; refused rows are kept with their reason.",
    )
    fold = Step(
        task_id="fold",
        words=["fold"],
        pool="tables",
        doc_md="What the stream archived since the last fold, into silver and embeddings.",
    )
    check_silver = Step(
        task_id="check_silver",
        words=["check", "silver"],
        execution_timeout=timedelta(hours=1),
        doc_md="Expectations on the rows, and their loss against the live release.",
    )
    embed: BaseOperator
    if spark_is_a_cluster():
        from house.spark_job import SparkJob

        embed = SparkJob(
            task_id="embed",
            job="run_embed.py",
            pool="gpu",
            execution_timeout=timedelta(hours=12),
            doc_md="Vectors for what changed, by spark-submit of `spark/run_embed.py`.",
        )
    else:
        embed = Step(
            task_id="embed",
            words=["embed"],
            pool="gpu",
            execution_timeout=timedelta(hours=12),
            doc_md="Vectors for what changed, in every space in use.",
        )
    check_embeddings = Step(
        task_id="check_embeddings",
        words=["check", "embeddings"],
        execution_timeout=timedelta(hours=1),
        outlets=[EMBEDDINGS],
        doc_md="Expectations on the vectors; then the asset is published.",
    )
    ingest >> fold >> check_silver >> embed >> check_embeddings
