"""Who acts: the name that the ledger keeps for a move made from this process."""

import getpass
import os
import socket


def current_actor() -> str:
    """`user@host`; a container without a passwd entry gives its numeric user id."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"
