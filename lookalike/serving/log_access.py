"""The server's one log, opened on first use: a log that is away does not keep the server from starting."""

import threading
from collections.abc import Callable

from lookalike.contracts.settings import Settings
from lookalike.storage.log.port import Log

OpenLog = Callable[[Settings], Log]


class LogAccess:
    """Thread-safe."""

    def __init__(self, settings: Settings, open_log: OpenLog | None = None) -> None:
        self._settings, self._open_log = settings, open_log
        self._lock = threading.Lock()
        self._log: Log | None = None

    def get(self) -> Log:
        """The log; opened again after an opening that failed. Raises LogUnavailable, SettingsError."""
        with self._lock:
            if self._log is None:
                self._log = (self._open_log or _open)(self._settings)
            return self._log

    def close(self) -> None:
        """Let go of it."""
        with self._lock:
            if self._log is not None:
                self._log.close()
                self._log = None


def _open(settings: Settings) -> Log:
    from lookalike.storage.log.opening import open_log

    return open_log(settings)
