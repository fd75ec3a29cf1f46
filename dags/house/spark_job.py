"""A job of `spark/` on a cluster, by spark-submit; imported only where `spark.master` is not local."""

import importlib.util
from pathlib import Path
from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import BaseHook, Context
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException

from house.rules import SPARK_CONNECTION


def job_file(name: str) -> str:
    """Path of `spark/NAME` in the installed package, found without importing it."""
    package = importlib.util.find_spec("spark")
    if package is None or not package.submodule_search_locations:
        raise ImportError("the package `spark` is not installed beside Airflow; install the wheel of lookalike")
    return str(Path(package.submodule_search_locations[0]) / name)


class SparkJob(SparkSubmitOperator):
    """SparkSubmitOperator that demands its connection: Airflow's own would submit to YARN without a word."""

    def __init__(self, *, job: str, **kwargs: Any) -> None:
        super().__init__(application=job_file(job), conn_id=SPARK_CONNECTION, **kwargs)
        self.job = job

    def execute(self, context: Context) -> None:
        """Submit the job and wait for its end. Raises AirflowFailException when the connection is missing."""
        try:
            BaseHook.get_connection(SPARK_CONNECTION)
        except AirflowNotFoundException as error:
            raise AirflowFailException(
                f"the connection {SPARK_CONNECTION!r} is missing ({error}): make it under Admin → Connections (type "
                f"spark, host = the cluster's master), or set AIRFLOW_CONN_{SPARK_CONNECTION.upper()}"
            ) from error
        super().execute(context)
