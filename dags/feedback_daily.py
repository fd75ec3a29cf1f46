"""Impressions and clicks of a day joined into the online report.

**When.** Daily at 00:30 UTC for the day that has just ended, and once more for the day before that: a click counts for
its search for 24 hours, so only now are its last ones in. By hand: *Trigger*, and name the day.

**What it leaves.** Rows of the day in `online_report`, by release and kind of query: impressions, searches with a
click, click-through rate, reciprocal rank of the first click, click-through by position, clicks without a search.
A day without records ends well with nothing to do. Impressions are off until `feedback.impressions` is set.

**When the task fails:** clear it. Each record of the log is taken once, and a report is only written where it says
something new. Records that the log had let go of (`log.retention_hours`) are lost; the log of the task says how many.
"""

from datetime import timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable, Param

from house.rules import HOUSE, day_of_run, late_after
from house.step import Step

with DAG(
    "feedback_daily",
    description="impressions and clicks of a day into the online report",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("30 0 * * *", timezone="UTC"),
    tags=["feedback"],
    deadline=late_after(hours=4),
    params={
        "day": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Day",
            description="UTC day, YYYY-MM-DD; empty: the day of the run's data interval",
        )
    },
    **HOUSE,
) as dag:
    Step(
        task_id="report",
        words=["feedback", "--day", day_of_run("day")],
        execution_timeout=timedelta(hours=1),
        doc_md="Records of the log into the tables; the day and the day before, joined and counted.",
    )
