import configparser
import json
import os
import stat

import pytest

from lookalike.contracts.errors import LookalikeError, MissingPrerequisite
from lookalike.contracts.settings import load_settings
from lookalike.line import airflow, airflow_home
from lookalike.line.airflow_home import prepare_home, settings_environment


@pytest.fixture
def dags(tmp_path):
    folder = tmp_path / "100% dags"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    monkeypatch.setattr(airflow_home, "airflow_version", lambda: "3.3.2")


def read(home):
    parser = configparser.ConfigParser()
    parser.read(home.folder / "airflow.cfg")
    return parser


def test_all_lies_below_the_home_and_listens_on_loopback(tmp_path, dags):
    home = prepare_home(load_settings(home=tmp_path / "h"), 8081, dags)
    configuration = read(home)
    assert configuration["core"]["dags_folder"] == str(dags)
    assert configuration["core"]["plugins_folder"] == str(dags / "plugins")
    assert json.loads(configuration["api"]["theme"]) == airflow_home.THEME
    assert configuration["api"]["host"] == "127.0.0.1"
    assert configuration["api"]["base_url"] == home.url == "http://127.0.0.1:8081"
    for section, key in (("logging", "base_log_folder"), ("core", "simple_auth_manager_passwords_file")):
        assert configuration[section][key].startswith(str(tmp_path / "h" / "airflow"))
    assert str(tmp_path / "h" / "airflow" / "airflow.db") in configuration["database"]["sql_alchemy_conn"]
    assert home.environment["AIRFLOW_HOME"] == str(tmp_path / "h" / "airflow")


def test_secrets_are_made_once_and_read_by_their_owner_alone(tmp_path, dags):
    settings = load_settings(home=tmp_path)
    first = prepare_home(settings, 8081, dags, {"admin": "admin"})
    keys = [read(first)[section][key] for section, key in (("core", "fernet_key"), ("api_auth", "jwt_secret"))]
    again = prepare_home(settings, 8082, dags, {"admin": "admin", "ada": "op"})
    assert [read(again)[section][key] for section, key in (("core", "fernet_key"), ("api_auth", "jwt_secret"))] == keys
    assert again.passwords["admin"] == first.passwords["admin"] != again.passwords["ada"]
    assert json.loads((first.folder / "passwords.json").read_text()) == again.passwords
    for name in ("airflow.cfg", "passwords.json", "secrets.json"):
        assert stat.S_IMODE((first.folder / name).stat().st_mode) == 0o600, name
    other = prepare_home(load_settings(home=tmp_path / "other"), 8081, dags)
    assert read(other)["core"]["fernet_key"] != keys[0]


def test_children_get_the_same_settings_from_their_environment(tmp_path, monkeypatch):
    given = load_settings(
        home=tmp_path,
        spark={"driver_memory": "1g", "conf": {"spark.ui.port": "4050"}},
        intake={"private_networks": ["10.0.0.0/8"]},
        gate={"min_recall_at_10": 0.5},
        feedback={"impressions": True},
    )
    for name, value in settings_environment(given).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == given


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    with pytest.raises(MissingPrerequisite, match="no folder of DAGs at"):
        prepare_home(load_settings(home=tmp_path), 8081, tmp_path / "nowhere")
    monkeypatch.undo()
    monkeypatch.setattr("importlib.metadata.version", _not_installed)
    with pytest.raises(MissingPrerequisite, match="make airflow"):
        airflow_home.airflow_version()


def _not_installed(name):
    from importlib.metadata import PackageNotFoundError

    raise PackageNotFoundError(name)


def test_a_second_supervisor_is_told_of_the_first(tmp_path):
    settings = load_settings(home=tmp_path)
    first = airflow._only_supervisor(settings)
    first.__enter__()
    with pytest.raises(LookalikeError, match=rf"process {os.getpid()}"), airflow._only_supervisor(settings):
        pass
    first.__exit__(None, None, None)
    with airflow._only_supervisor(settings):
        pass


def test_a_failed_migration_shows_what_airflow_said(tmp_path, dags, monkeypatch):
    home = prepare_home(load_settings(home=tmp_path), 8081, dags)
    monkeypatch.setattr(airflow_home, "airflow_command", lambda *words: ["sh", "-c", "echo no such disk >&2; exit 3"])
    with pytest.raises(LookalikeError, match=r"exit 3[\s\S]*no such disk"):
        home.migrate()
    monkeypatch.setattr(airflow_home, "airflow_command", lambda *words: ["true"])
    home.migrate()
    monkeypatch.setattr(airflow_home, "airflow_command", lambda *words: ["false"])
    home.migrate()  # done already
