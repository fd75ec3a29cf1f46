"""Airflow's home on one machine: configuration, secrets and database below HOME/airflow, made once and used again.

Everything listens on loopback only. The file `airflow.cfg` holds all of it, so that with AIRFLOW_HOME set the `airflow`
command works by hand beside the running components. Airflow itself is only ever run as a program, never imported here.
"""

import json
import os
import secrets
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookalike.contracts.errors import LookalikeError, MissingPrerequisite
from lookalike.contracts.settings import ENV_DELIMITER, ENV_PREFIX, Settings
from lookalike.storage.atomic import write_bytes

HOST = "127.0.0.1"
DAGS = Path(__file__).parents[2] / "dags"
# Airflow shows pictures in Markdown 300 pixels wide at most. On a contact sheet of that size nothing can be seen.
THEME = {"globalCss": {"img[src^=lookalike]": {"maxWidth": "100% !important"}}}
USERS = {"admin": "admin"}
MIGRATE_SECONDS = 300
_SECRETS = "secrets.json"
_MIGRATED = "migrated"
_CONFIGURATION = """\
# Written anew at each start; what must last goes into the environment as AIRFLOW__SECTION__KEY.
[core]
dags_folder = {dags}
plugins_folder = {dags}/plugins
load_examples = False
executor = LocalExecutor
parallelism = {tasks}
hostname_callable = socket.gethostname
fernet_key = {fernet_key}
simple_auth_manager_users = {users}
simple_auth_manager_passwords_file = {passwords}

[database]
# Several processes write; on a busy machine one of them may have to wait longer than the usual five seconds.
sql_alchemy_conn = sqlite:///{database}?timeout=60

[api]
host = {host}
port = {port}
base_url = http://{host}:{port}
workers = 1
secret_key = {secret_key}
instance_name = Lookalike
theme = {theme}

[api_auth]
jwt_secret = {jwt_secret}

[scheduler]
# A scheduler that was killed is missed after this long, and its tasks are taken over as soon.
scheduler_health_check_threshold = 15
orphaned_tasks_check_interval = 15
task_instance_heartbeat_timeout = 60

[dag_processor]
refresh_interval = 15
min_file_process_interval = 15

[logging]
base_log_folder = {logs}
colored_console_log = False
dag_processor_child_process_log_directory = {logs}/dag_processor
"""


@dataclass(frozen=True)
class AirflowHome:
    """A prepared home: `airflow` runs in it with `environment`."""

    folder: Path
    port: int
    dags: Path
    environment: Mapping[str, str]
    passwords: Mapping[str, str]

    @property
    def url(self) -> str:
        """Address of the UI and of the REST API."""
        return f"http://{HOST}:{self.port}"

    @property
    def logs(self) -> Path:
        """Task logs, and one file per component."""
        return self.folder / "logs"

    def migrate(self) -> None:
        """Bring the database to this Airflow's schema; nothing to do when it has it. Raises LookalikeError."""
        version = airflow_version()
        mark = self.folder / _MIGRATED
        if mark.is_file() and mark.read_text() == version:
            return
        done = subprocess.run(
            airflow_command("db", "migrate"), env=dict(self.environment), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=MIGRATE_SECONDS, check=False,
        )  # fmt: skip
        if done.returncode:
            raise LookalikeError(
                f"`airflow db migrate` failed for {self.folder} (exit {done.returncode}). Its end:\n"
                + "\n".join((done.stdout + done.stderr).splitlines()[-15:])
            )
        write_bytes(mark, version.encode())


def airflow_command(*words: str) -> list[str]:
    """The `airflow` program of this environment."""
    return [sys.executable, "-m", "airflow", *words]


def airflow_version() -> str:
    """Version of the installed Airflow. Raises MissingPrerequisite that says how to get it."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("apache-airflow-core")
    except PackageNotFoundError as error:
        raise MissingPrerequisite(
            "Airflow is not installed in this environment; `make airflow` installs it, or: "
            "uv sync --frozen --inexact --extra line --extra airflow"
        ) from error


def prepare_home(settings: Settings, port: int, dags: Path = DAGS, users: Mapping[str, str] = USERS) -> AirflowHome:
    """Write HOME/airflow for these settings; secrets and passwords stay as they are when they exist.

    `users`: role (viewer, user, op, admin) by name. The caller's variables AIRFLOW__SECTION__KEY hold over the file.
    Raises MissingPrerequisite without Airflow or without the folder of DAGs.
    """
    airflow_version()
    if not dags.is_dir():
        raise MissingPrerequisite(f"there is no folder of DAGs at {dags}; run from a checkout of the repository")
    folder = settings.home.absolute() / "airflow"
    folder.mkdir(parents=True, exist_ok=True)
    kept = _secrets(folder, users)
    text = _CONFIGURATION.format(
        dags=_escaped(dags.absolute()), tasks=max(2, os.cpu_count() or 2), host=HOST, port=port,
        users=",".join(f"{name}:{role}" for name, role in users.items()), passwords=_escaped(folder / "passwords.json"),
        database=_escaped(folder / "airflow.db"), logs=_escaped(folder / "logs"), theme=_escaped(json.dumps(THEME)),
        **{name: value for name, value in kept.items() if name != "passwords"},
    )  # fmt: skip
    _write_private(folder / "airflow.cfg", text)
    _write_private(folder / "passwords.json", json.dumps(kept["passwords"]) + "\n")
    environment = dict(os.environ) | settings_environment(settings)
    environment |= {"AIRFLOW_HOME": str(folder), "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
    environment.pop("AIRFLOW_CONFIG", None)  # the file written here is the one that counts
    return AirflowHome(folder, port, dags.absolute(), environment, kept["passwords"])


def settings_environment(settings: Settings) -> dict[str, str]:
    """Variables that give a child process every setting that differs from its default."""
    found = {f"{ENV_PREFIX}HOME": str(settings.home.absolute())}
    for section, values in settings.model_dump(mode="json", exclude_defaults=True, exclude={"home"}).items():
        for key, value in values.items():
            name = f"{ENV_PREFIX}{section}{ENV_DELIMITER}{key}".upper()
            found[name] = value if isinstance(value, str) else json.dumps(value)
    return found


def _secrets(folder: Path, users: Mapping[str, str]) -> dict[str, Any]:
    """Keys that all components share, and a password per user; made at the first start."""
    path = folder / _SECRETS
    kept: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {
        "fernet_key": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "secret_key": secrets.token_hex(32),
        "jwt_secret": secrets.token_hex(32),
        "passwords": {},
    }  # fmt: skip
    passwords = {name: kept["passwords"].get(name) or secrets.token_urlsafe(9) for name in users}
    kept["passwords"] |= passwords
    _write_private(path, json.dumps(kept, indent=1))
    return kept | {"passwords": passwords}


def _write_private(path: Path, text: str) -> None:
    """Written whole, readable by its owner alone from the start."""
    before = os.umask(0o077)
    try:
        write_bytes(path, text.encode())
    finally:
        os.umask(before)


def _escaped(value: Path | str) -> str:
    return str(value).replace("%", "%%")
