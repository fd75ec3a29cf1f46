"""The direct way into MLflow's SQLite file answers and writes what MLflow's own client does, call by call."""

import shutil
import sqlite3

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from lookalike.releases.light_models import SCHEMAS, LightModels, RegistryFault, open_light

pytestmark = pytest.mark.slow
MODEL = "lookalike-index"
TABLES = ("registered_models", "registered_model_tags", "registered_model_aliases", "model_versions",
          "model_version_tags")  # fmt: skip


@pytest.fixture
def both(shelf):
    """A light and a real client, each on its own copy of the same registry, and both files."""
    for _ in range(2):
        shelf.judged()
    shelf.by_hand("1")
    path = shelf.settings.home / "mlflow.db"
    other = path.with_name("other.db")
    shutil.copy(path, other)
    uri = f"sqlite:///{other}"
    return open_light(f"sqlite:///{path}"), MlflowClient(uri, uri), path, other


def rows(path):
    with sqlite3.connect(path) as database:
        return {table: sorted(database.execute(f"SELECT * FROM {table}"), key=repr) for table in TABLES}


def test_the_installed_mlflow_has_a_layout_that_is_known(shelf):
    light = open_light(shelf.settings.tracking_uri)
    assert isinstance(light, LightModels) and light.layout() in SCHEMAS


READS = [
    ("get_registered_model", MODEL), ("get_model_version", MODEL, "2"), ("get_model_version_by_alias", MODEL, "live"),
    ("get_model_version_by_alias", MODEL, "candidate"),
]  # fmt: skip


@pytest.mark.parametrize("call", READS, ids="-".join)
def test_reads_give_what_mlflow_gives(both, call):
    light, client, _, _ = both
    ours, theirs = (getattr(each, call[0])(*call[1:]) for each in (light, client))
    for member in vars(ours):
        if member == "aliases":
            assert ours.aliases == {alias: str(version) for alias, version in theirs.aliases.items()}
        else:
            assert str(getattr(ours, member)) == str(getattr(theirs, member)), member


def test_all_versions_are_those_that_mlflow_finds(both):
    light, client, _, other = both
    theirs = {str(found.version): found.tags for found in client.search_model_versions(f"name = '{MODEL}'")}
    assert {found.version: found.tags for found in light.model_versions(MODEL)} == theirs and len(theirs) == 2
    client.delete_model_version(MODEL, "2")
    assert [found.version for found in LightModels(other).model_versions(MODEL)] == ["1"]
    with pytest.raises(RegistryFault):
        LightModels(other).get_model_version(MODEL, "2")


WRITES = [
    ("set_registered_model_alias", MODEL, "live", "2"), ("set_registered_model_alias", MODEL, "fresh", "1"),
    ("set_registered_model_tag", MODEL, "key", "ä 'quoted'"), ("set_model_version_tag", MODEL, "1", "verdict", "new"),
    ("set_model_version_tag", MODEL, "2", "ledger 2026-01-01T00:00:00.000000Z", "x"),
    ("delete_registered_model_tag", MODEL, "absent"),
]  # fmt: skip


@pytest.mark.parametrize("call", WRITES, ids=lambda call: "-".join(call[:4]))
def test_writes_leave_the_rows_that_mlflow_leaves(both, call):
    light, client, path, other = both
    before = rows(path)
    for each in (light, client):
        getattr(each, call[0])(*call[1:])
    assert rows(path) == rows(other)
    assert (rows(path) != before) == (call[0] != "delete_registered_model_tag")


def test_a_tag_that_is_removed_is_gone_for_both(both):
    light, client, path, other = both
    for each in (light, client):
        each.set_registered_model_tag(MODEL, "key", "value")
        each.delete_registered_model_tag(MODEL, "key")
    assert rows(path) == rows(other)


FAULTS = [
    ("get_registered_model", "nothing"), ("get_model_version", MODEL, "9"), ("get_model_version", MODEL, "x"),
    ("get_model_version", "nothing", "1"), ("get_model_version_by_alias", MODEL, "nothing"),
    ("get_model_version_by_alias", "nothing", "live"), ("set_registered_model_alias", MODEL, "live", "9"),
    ("set_registered_model_tag", "nothing", "key", "value"), ("set_model_version_tag", MODEL, "9", "key", "value"),
    ("delete_registered_model_tag", "nothing", "key"),
]  # fmt: skip


@pytest.mark.parametrize("call", FAULTS, ids=lambda call: "-".join(call[:4]))
def test_faults_have_mlflows_code(both, call):
    light, client, path, _ = both
    before = rows(path)
    with pytest.raises(MlflowException) as theirs:
        getattr(client, call[0])(*call[1:])
    with pytest.raises(RegistryFault) as ours:
        getattr(light, call[0])(*call[1:])
    assert ours.value.error_code == theirs.value.error_code and rows(path) == before


def test_another_layout_or_store_is_left_to_mlflow(shelf, tmp_path, monkeypatch):
    uri = shelf.settings.tracking_uri
    with monkeypatch.context() as patched:
        patched.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
        assert open_light(uri) is None
    with sqlite3.connect(shelf.settings.home / "mlflow.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'newer'")
    assert open_light(uri) is None
    (tmp_path / "text.db").write_text("no database " * 1_000)
    for other in (f"sqlite:///{tmp_path}/text.db", f"sqlite:///{tmp_path}/absent.db", "http://127.0.0.1:5000"):
        assert open_light(other) is None
    assert not (tmp_path / "absent.db").exists()
