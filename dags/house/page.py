"""docs/dags.md from the DAGs themselves: `PYTHONPATH=dags python -m house.page docs/dags.md`.

Their docstrings are the runbooks; beside them stand what each task runs, and where and how long it may.
"""

import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1]
HEAD = """# Schedules

Written from the files in `dags/` by `PYTHONPATH=dags python -m house.page docs/dags.md`; a test says when it is stale.
The same text stands on each DAG's page in Airflow. How Airflow is set up: [operations](operations.md#airflow).

A task is a command: what the table shows after `lookalike` can be typed by hand. A word in capitals comes from the run
(a form's field, the day, the answer of an earlier task); a word in brackets is there when the form asks for it.
"""
TEMPLATE = re.compile(r"\{\{(.*?)\}\}")


def load_dags() -> dict[str, Any]:
    """All DAGs by id, each from its file; Airflow's home is a temporary folder unless AIRFLOW_HOME names one."""
    os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-home-"))
    from airflow.sdk import DAG

    found: dict[str, Any] = {}
    for path in sorted(FOLDER.glob("*.py")):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found |= {value.dag_id: value for value in vars(module).values() if isinstance(value, DAG)}
    return found


def page(dags: Mapping[str, Any]) -> str:
    """The whole page."""
    rows = ["| DAG | what it does | when | tags |", "| --- | --- | --- | --- |"]
    sections = []
    for name, dag in sorted(dags.items()):
        rows.append(f"| [{name}](#{name}) | {dag.description} | {_schedule(dag)} | {', '.join(sorted(dag.tags))} |")
        sections.append(f"## {name}\n\n{dag.doc_md.strip()}\n\n{_tasks(dag)}")
    return "\n".join([HEAD, *rows]) + "\n\n" + "\n\n".join(sections) + "\n"


def _schedule(dag: Any) -> str:
    table = dag.timetable
    if getattr(table, "asset_condition", None) is not None:
        return "after " + ", ".join(f"`{asset.name}`" for asset in table.asset_condition.objects)
    expression = getattr(table, "expression", None)
    return f"`{expression}` UTC" if expression else "by hand"


def _tasks(dag: Any) -> str:
    rows = ["| task | runs | pool | at most | what it does |", "| --- | --- | --- | --- | --- |"]
    left = {task.task_id: task for task in dag.tasks}
    while left:
        name = next(name for name, task in left.items() if not task.upstream_task_ids & left.keys())
        task = left.pop(name)
        own = getattr(task, "partial_kwargs", vars(task))
        limit = own.get("execution_timeout") or own.get("response_timeout")
        pool = "" if own["pool"] == "default_pool" else f"`{own['pool']}`"
        rows.append(f"| `{name}` | {_runs(task, own)} | {pool} | {_hours(limit)} | {own['doc_md']} |")
    return "\n".join(rows)


def _runs(task: Any, own: Mapping[str, Any]) -> str:
    if task.task_type == "Step":
        command = " ".join(["lookalike", *(TEMPLATE.sub(_plain, word) for word in own["words"])])
        return f"`{command}`" + (", one per shard" if hasattr(task, "partial_kwargs") else "")
    if task.task_type == "TriggerDagRunOperator":
        return f"the DAG [{task.trigger_dag_id}](#{task.trigger_dag_id})"
    return {"Approval": "a question to a person", "SparkJob": "spark-submit"}.get(task.task_type, "")


def _plain(template: re.Match[str]) -> str:
    """A template as a reader of the page wants it: BUILD, VERSION, DAY, [--must]."""
    text = template[1]
    if optional := re.search(r"'(--[\w-]+)", text):
        return f"[{optional[1]}]"
    if "data_interval_start" in text:
        return "DAY"
    for pattern in (r"\['(\w+)'\]", r"key='(\w+)'", r"params\.(\w+)"):
        if named := re.search(pattern, text):
            return named[1].upper()
    return "SHARD"


def _hours(limit: Any) -> str:
    if limit is None:
        return ""
    hours = limit.total_seconds() / 3600
    return f"{hours / 24:g} days" if hours > 24 else f"{hours:g} h" if hours >= 1 else f"{hours * 60:g} min"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(load_dags()))
