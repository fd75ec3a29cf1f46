"""The ledger's actor: who at which machine, and which run of which schedule where one acts."""

import getpass
import socket

from lookalike.line.actor import current_actor


def test_by_hand_it_is_user_and_machine(monkeypatch):
    monkeypatch.delenv("AIRFLOW_CTX_DAG_ID", raising=False)
    monkeypatch.delenv("AIRFLOW_CTX_DAG_RUN_ID", raising=False)
    assert current_actor() == f"{getpass.getuser()}@{socket.gethostname()}"


def test_in_a_task_it_names_dag_and_run(monkeypatch):
    """By the names that Airflow itself exports."""
    from airflow.sdk.execution_time.context import AIRFLOW_VAR_NAME_FORMAT_MAPPING

    known = {format_["env_var_format"] for format_ in AIRFLOW_VAR_NAME_FORMAT_MAPPING.values()}
    assert {"AIRFLOW_CTX_DAG_ID", "AIRFLOW_CTX_DAG_RUN_ID"} <= known
    monkeypatch.setenv("AIRFLOW_CTX_DAG_ID", "index_release")
    monkeypatch.setenv("AIRFLOW_CTX_DAG_RUN_ID", "manual__2026-11-23")
    assert current_actor().endswith(f"@{socket.gethostname()}, index_release manual__2026-11-23")
