"""The server process: a listening socket first, so that a taken port is a clear error, then uvicorn on it."""

import errno
import logging
import socket
import sys

from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.settings import Settings

GRACE_SECONDS = 15
BACKLOG = 2_048
SWITCH_SECONDS = 0.0005
"""How long a thread may keep the interpreter: searches must not wait 5 ms each time for changes to be taken in."""


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C; requests under way are finished first. Prints the address once it listens.

    Raises LookalikeError when the address cannot be listened on.
    """
    import uvicorn
    from threadpoolctl import threadpool_limits

    from lookalike.serving.app import create_app

    # Searches run side by side, each in one thread; numpy's own would only wait for each other, at a core's cost.
    threadpool_limits(limits=1, user_api="blas")
    sys.setswitchinterval(SWITCH_SECONDS)
    _log_to_stderr()
    listener = listen(settings.serving.host, settings.serving.port)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    config = uvicorn.Config(
        create_app(settings, address=f"{_reported(host)}:{port}"),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    sys.stdout.write(f"Lookalike serves on http://{shown}:{port} (Ctrl-C ends it)\n")
    sys.stdout.flush()
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        pass  # uvicorn has shut down in order and only passes the signal on
    finally:
        listener.close()


def _reported(host: str) -> str:
    """The host under which this server reports: an address that stands for all says nothing to others."""
    return socket.gethostname() if host in ("0.0.0.0", "::") else host


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises LookalikeError that names the setting to change."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise LookalikeError(f"serving.host = {host!r} is not an address of this machine: {error.strerror}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise LookalikeError(
                f"port {port} of {host} is in use; choose another with serving.port (0 takes a free one)"
            ) from error
        raise LookalikeError(f"cannot listen on {host}, port {port}: {error.strerror}") from error
    return listener


def _log_to_stderr() -> None:
    """One plain line per event, unless the entry point has set up logging already."""
    if not logging.getLogger().handlers:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        logging.getLogger("httpx").setLevel(logging.WARNING)
