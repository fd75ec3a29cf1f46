"""Who acts: the name that the ledger keeps for a move made from this process."""

import getpass
import os
import socket

# Airflow exports these to whatever a task runs.
_DAG, _RUN = "AIRFLOW_CTX_DAG_ID", "AIRFLOW_CTX_DAG_RUN_ID"


def current_actor() -> str:
    """`user@host`, and within a task of Airflow the DAG and its run behind it: `user@host, index_release manual__…`.

    A container without a passwd entry gives its numeric user id.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    task = " ".join(os.environ[name] for name in (_DAG, _RUN) if os.environ.get(name))
    return f"{user}@{socket.gethostname()}" + (f", {task}" if task else "")
