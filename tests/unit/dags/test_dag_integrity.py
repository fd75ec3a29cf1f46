"""Every file parses to the DAG of its name, and keeps the house's policy."""

import ast
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "dags").glob("*.py"))
IDS = {
    "catalogue_nightly", "index_release", "reembed", "encoder_train", "feedback_daily", "tables_maintenance",
    "stream_health",
}  # fmt: skip
HEAVY = {
    "torch", "torchvision", "pyspark", "delta", "faiss", "mlflow", "apache_beam", "pandas", "numpy", "pyarrow",
    "deltalake", "great_expectations", "PIL", "fastapi", "transformers",
}  # fmt: skip
# A question is not asked again, has a limit of its own, and an empty task never runs.
ASKS, EMPTY = "Approval", "EmptyOperator"


def every_task(dags):
    return [(dag, task) for dag in dags.values() for task in dag.tasks]


def words(task):
    """Words of a Step, mapped or not; none of another operator."""
    found = getattr(task, "partial_kwargs", {}).get("words") or getattr(task, "words", None)
    return [word for word in (found or []) if not word.startswith("{{ '")]


def argument(task, name):
    return (
        task.partial_kwargs.get(name, getattr(task, name)) if hasattr(task, "partial_kwargs") else getattr(task, name)
    )


def test_each_file_holds_the_dag_of_its_name(dags):
    assert {path.stem for path in FILES} == IDS == set(dags)
    assert all(Path(dag.fileloc).stem == name for name, dag in dags.items())


def test_airflow_parses_the_schedules_and_nothing_beside_them():
    from airflow.utils.file import list_py_file_paths

    assert {Path(path) for path in list_py_file_paths(ROOT / "dags", safe_mode=False)} == set(FILES)


def test_each_dag_can_be_serialised_and_read_back(dags):
    from airflow.serialization.serialized_objects import DagSerialization

    for name, dag in dags.items():
        read = DagSerialization.from_dict(DagSerialization.to_dict(dag))
        assert set(read.task_ids) == set(dag.task_ids), name


def test_no_dag_has_a_cycle(dags):
    for dag in dags.values():
        left = {task.task_id: set(task.upstream_task_ids) for task in dag.tasks}
        while left:
            free = {task for task, upstream in left.items() if not upstream & set(left)}
            assert free, f"{dag.dag_id}: a cycle among {sorted(left)}"
            left = {task: upstream for task, upstream in left.items() if task not in free}


def test_policy_of_dags(dags):
    from house.rules import TAGS

    for name, dag in dags.items():
        assert dag.tags and set(dag.tags) <= TAGS, name
        assert dag.max_active_runs == 1 and dag.catchup is False, name
        assert dag.description, name
        assert dag.doc_md and "**When" in dag.doc_md and "fails" in dag.doc_md, f"{name}: the docstring is no runbook"
        # Five minutes are their own deadline: the next run is the reminder.
        assert dag.deadline or name == "stream_health", name


def test_policy_of_tasks(dags):
    from house.notifier import task_failed
    from house.rules import OWNER, POOLS

    for dag, task in every_task(dags):
        name = f"{dag.dag_id}.{task.task_id}"
        assert argument(task, "owner") == OWNER, name
        assert argument(task, "doc_md"), name
        assert argument(task, "pool") in {*POOLS, "default_pool"}, name
        assert task_failed in argument(task, "on_failure_callback"), name
        if task.task_type == ASKS:
            assert task.response_timeout and not task.retries, name
            continue
        assert argument(task, "execution_timeout") > timedelta(0), name
        assert argument(task, "retries") >= 1, name
        assert argument(task, "retry_exponential_backoff") >= 2, name
        assert argument(task, "retry_delay") <= argument(task, "max_retry_delay") <= timedelta(hours=1), name


# What must not run twice at once has one pool, which also holds for backfills.
POOL_OF = {
    ("ingest",): "tables", ("fold",): "tables", ("tables", "maintain"): "tables",
    ("embed",): "gpu", ("reembed", "run"): "gpu", ("train",): "gpu", ("evaluate",): "gpu",
    ("index", "pin"): "index", ("index", "train"): "index", ("index", "encode"): "index", ("index", "merge"): "index",
}  # fmt: skip


def test_writers_and_heavy_work_are_in_their_pools(dags):
    seen = set()
    for dag, task in every_task(dags):
        for verb, pool in POOL_OF.items():
            if tuple(words(task)[: len(verb)]) == verb:
                seen.add(verb)
                assert argument(task, "pool") == pool, f"{dag.dag_id}.{task.task_id}"
    assert seen == set(POOL_OF)


def test_a_night_is_the_day_on_which_the_data_interval_starts(dags):
    from airflow.sdk.timezone import parse
    from airflow.serialization.serialized_objects import DagSerialization

    timetable = DagSerialization.from_dict(DagSerialization.to_dict(dags["catalogue_nightly"])).timetable
    interval = timetable.infer_manual_data_interval(run_after=parse("2026-11-21T00:00:00+00:00"))
    assert (interval.start, interval.end) == (datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC))


def test_the_nightly_run_publishes_what_starts_the_release(dags):
    from house.rules import EMBEDDINGS

    publishers = [(dag.dag_id, task.task_id) for dag, task in every_task(dags) if EMBEDDINGS in task.outlets]
    assert publishers == [("catalogue_nightly", "check_embeddings")]
    assert dags["catalogue_nightly"].get_task("check_embeddings").downstream_task_ids == set()
    assert dags["index_release"].timetable.asset_condition.objects == (EMBEDDINGS,)


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            yield node.module


@pytest.mark.parametrize("path", sorted((ROOT / "dags").rglob("*.py")), ids=lambda path: path.stem)
def test_dags_import_airflow_and_settings_only(path):
    allowed = {"lookalike.contracts.settings", "lookalike.contracts.errors"}
    for name in imported(path):
        top = name.split(".")[0]
        if path.parent.name == "plugins" and top == "fastapi":
            continue
        assert top in {"airflow", "house"} or top in sys.stdlib_module_names or name in allowed, name


def test_the_watch_needs_the_standard_library_only():
    names = {name.split(".")[0] for name in imported(ROOT / "dags" / "house" / "watch.py")}
    assert names <= set(sys.stdlib_module_names)


PARSE = """
import sys, time
from airflow.dag_processing.dagbag import DagBag
before, start = set(sys.modules), time.process_time()
bag = DagBag(dag_folder=sys.argv[1])
assert not bag.import_errors, bag.import_errors
seconds = round(time.process_time() - start, 2)
print(len(bag.dags), seconds, *sorted({name.split(".")[0] for name in set(sys.modules) - before}))
"""


@pytest.mark.slow
def test_parsing_loads_no_heavy_module(tmp_path):
    # Whatever Airflow itself has loaded by then is not ours.
    done = subprocess.run(
        [sys.executable, "-c", PARSE, str(ROOT / "dags")],
        capture_output=True, text=True, timeout=120,
        env={"PATH": "/usr/bin:/bin", "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
             "PYTHONPATH": str(ROOT / "dags")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    count, seconds, *modules = done.stdout.splitlines()[-1].split()
    sys.stdout.write(f"parsing all files: {seconds} CPU s\n")
    assert int(count) == len(IDS) and "house" in modules
    assert not HEAVY & set(modules)


def test_wrong_settings_do_not_take_the_dags_away(monkeypatch):
    # The tasks then say what is wrong, each in its own log; a DAG that is gone says nothing.
    from house.rules import spark_is_a_cluster

    monkeypatch.setenv("LOOKALIKE_SPARK__MASTER", "spark://host:7077")
    assert spark_is_a_cluster()
    monkeypatch.setenv("LOOKALIKE_SPARK__SHUFFLE_PARTITIONS", "none")
    assert not spark_is_a_cluster()


def test_on_a_cluster_embed_is_a_spark_job(monkeypatch):
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.setenv("LOOKALIKE_SPARK__MASTER", "spark://host:7077")
    bag = DagBag(dag_folder=str(ROOT / "dags" / "catalogue_nightly.py"))
    embed = bag.dags["catalogue_nightly"].get_task("embed")
    assert embed.task_type == "SparkJob" and embed.pool == "gpu"
    assert Path(embed.application).samefile(ROOT / "spark" / "run_embed.py")


def test_a_missing_spark_connection_is_named(monkeypatch):
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException

    from house.spark_job import SparkJob

    def missing(_self, conn_id):
        raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")

    monkeypatch.setattr(BaseHook, "get_connection", classmethod(missing))
    with pytest.raises(AirflowFailException, match=r"spark_default.*Admin → Connections"):
        SparkJob.execute.__wrapped__(SparkJob(task_id="embed", job="run_embed.py"), {})


def test_the_local_set_up_makes_the_pools_that_are_used():
    from house.rules import POOLS, SPARK_CONNECTION
    from lookalike.line import airflow

    assert {name: slots for name, slots, _ in airflow.POOLS} == dict(POOLS)
    assert airflow.SPARK_CONNECTION == SPARK_CONNECTION


def test_the_page_is_what_the_dags_say(dags):
    from house.page import page

    stale = "docs/dags.md is stale: PYTHONPATH=dags .venv/bin/python -m house.page docs/dags.md"
    assert (ROOT / "docs" / "dags.md").read_text() == page(dags), stale


def test_the_values_of_the_chart_name_settings_and_the_version_that_is_locked(monkeypatch, tmp_path):
    import yaml

    from lookalike.contracts.settings import load_settings

    values = yaml.safe_load((ROOT / "docker" / "airflow-values.yaml").read_text())
    version = values["airflowVersion"]
    assert f"apache-airflow=={version}" in (ROOT / "requirements.txt").read_text()
    assert f"apache/airflow:{version}-python3.11" in (ROOT / "docker" / "airflow.Dockerfile").read_text()
    monkeypatch.chdir(tmp_path)
    for each in values["env"]:
        monkeypatch.setenv(each["name"], each["value"])
    settings = load_settings()
    assert settings.log.kind == "kafka" and not settings.spark.master.startswith("local")
    assert str(settings.home) == "/data" and values["volumeMounts"][0]["mountPath"] == "/data"
