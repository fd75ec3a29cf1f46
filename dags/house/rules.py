"""Policy of all schedules in one place: owner, tags, pools, retries, time-outs, alerts, the asset, shared templates."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from airflow.sdk import Asset
from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from house.notifier import deadline_missed, task_failed
from lookalike.contracts.errors import SettingsError
from lookalike.contracts.settings import load_settings

OWNER = "search-platform"
TAGS = frozenset({"catalogue", "index", "encoder", "stream", "feedback", "maintenance"})
# Slots of the pools that a deployment makes. `tables` has one: its tasks write the same tables, and a pool holds for
# scheduled runs and backfills alike, where `max_active_runs` does not.
POOLS: Mapping[str, int] = MappingProxyType({"gpu": 1, "index": 2, "tables": 1})
EMBEDDINGS = Asset("lookalike_embeddings")
SPARK_CONNECTION = "spark_default"
# Backfills reach back to here.
START = datetime(2020, 1, 1, tzinfo=UTC)

TASK_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "owner": OWNER,
        "retries": 3,
        "retry_delay": timedelta(seconds=30),
        "retry_exponential_backoff": 4,
        "max_retry_delay": timedelta(minutes=10),
        "execution_timeout": timedelta(hours=2),
        "on_failure_callback": task_failed,
    }
)
# What every DAG has: one run at a time, nothing caught up by itself (`airflow backfill create` does that).
HOUSE: Mapping[str, Any] = MappingProxyType(
    {"start_date": START, "catchup": False, "max_active_runs": 1, "default_args": dict(TASK_DEFAULTS)}
)

# The day that a run is about: what the form says, else the UTC day on which its data interval starts. A run by hand
# without an interval is about yesterday, as the scheduled one of the same day.
_DAY = "{{ params.%s or ((dag_run.data_interval_start or dag_run.run_after - macros.timedelta(days=1)) | ds) }}"


def day_of_run(param: str) -> str:
    """Template of the run's day, YYYY-MM-DD, which the form's field `param` may name."""
    return _DAY % param


def option(name: str, expression: str) -> str:
    """Template of `--name=VALUE`, or of nothing where the expression is empty."""
    return f"{{{{ '--{name}=' ~ ({expression}) if ({expression}) else '' }}}}"


def answer_of(task: str, field: str) -> str:
    """Template of one field of the answer of an earlier task."""
    return f"{{{{ ti.xcom_pull(task_ids='{task}')['{field}'] }}}}"


def late_after(hours: float) -> DeadlineAlert:
    """Tell somebody when a run has not ended so long after it was queued.

    The callback runs in the executor, which puts this folder on the path; a triggerer would not.
    """
    callback = SyncCallback(deadline_missed, {"within": f"{hours:g} h"})
    return DeadlineAlert(
        name=f"within {hours:g} h",
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(hours=hours),
        callback=callback,
    )


def spark_is_a_cluster() -> bool:
    """Whether Spark jobs go to a cluster by spark-submit.

    Settings that cannot be read count as no: then the DAG still parses, and its tasks say in their logs what is wrong.
    """
    try:
        master = load_settings().spark.master
    except SettingsError:
        return False
    return not master.startswith("local") or master.startswith("local-cluster")
