"""Reporter: says now and then what this server serves and how fresh it is, and asks for a release when one is due.

It also sees to it that each move of `live` is in the ledger: one made by hand in MLflow is written down here.

The report goes to the log, where `lookalike status` reads it: no server needs to be reachable for that. Registry and
log may be away; then the next report tries again.
"""

import logging
import os
import threading
import time
from datetime import UTC, datetime

from lookalike.contracts.change import Topic
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.server_report import ServerReport
from lookalike.serving.follower import Source
from lookalike.serving.freshness import quantiles
from lookalike.serving.overlay_status import OverlayStatus
from lookalike.serving.state import Serving
from lookalike.storage.log.port import Message

LOG = logging.getLogger("lookalike.serving")
STOP_SECONDS = 5.0
LOOK_SECONDS = 1.0
"""How often it looks whether the pointer moved, which costs nothing as long as it did not."""
RECHECK_SECONDS = 60.0
"""How often it asks the ledger all the same: the pointer may have been moved to and fro between two looks."""


class Reporter:
    """`start` begins, `stop` sends a last report and ends."""

    def __init__(self, serving: Serving, source: Source, server: str) -> None:
        """`server`: host:port, the key of its reports."""
        self._serving, self._source, self._server = serving, source, server
        self._seconds = serving.settings.serving.report_seconds
        self._started_at = datetime.now(UTC)
        self._answered, self._answered_at = 0, time.monotonic()
        self._asked_for: tuple[str, datetime] | None = None
        self._failed = False
        self._noted: str | None = None
        self._noted_at = 0.0
        self._note_failed = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        """Begin to report; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Report that the server ends, and end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        due = time.monotonic() + self._seconds
        while not self._stopping.wait(min(LOOK_SECONDS, max(0.0, due - time.monotonic()))):
            self.note_move()
            if time.monotonic() >= due:
                self.report()
                due = time.monotonic() + self._seconds
        self.report(stopped=True)

    def note_move(self) -> None:
        """Let the registry write down a move of `live` that the ledger does not explain. Raises nothing."""
        live = self._serving.follower.status().live
        if live is None or (live == self._noted and time.monotonic() - self._noted_at < RECHECK_SECONDS):
            return
        try:
            self._source.note_move(f"server {self._server}")
            self._noted, self._noted_at, self._note_failed = live, time.monotonic(), False
        except Exception as error:
            if not self._note_failed:  # one line, not one per look
                on_purpose = isinstance(error, LookalikeError)
                LOG.warning("a move of live may be missing in the ledger: %s", error,
                            exc_info=None if on_purpose else error)  # fmt: skip
            self._note_failed = True

    def report(self, stopped: bool = False) -> None:
        """One report, and a release asked for where one is due. Raises nothing: a server lives without it."""
        overlay = self._serving.follower.overlay()
        try:
            message = Message(self._server.encode(), self._report(overlay, stopped).encode())
            self._serving.log.get().append(Topic.REPORTS, [message])
            if overlay is not None and overlay.over_budget and not stopped:
                self._ask(overlay, overlay.over_budget)
            self._failed = False
        except LookalikeError as error:
            self._note_failure(error)
        except Exception as error:
            self._note_failure(error, unexpected=True)

    def _note_failure(self, error: Exception, unexpected: bool = False) -> None:
        if not self._failed:  # one line, not one per report
            LOG.warning("cannot report: %s", error, exc_info=error if unexpected else None)
        self._failed = True

    def _report(self, overlay: OverlayStatus | None, stopped: bool) -> ServerReport:
        status, metrics, now = self._serving.follower.status(), self._serving.metrics, time.monotonic()
        answered, elapsed = metrics.answered - self._answered, max(now - self._answered_at, 1e-9)
        self._answered, self._answered_at = metrics.answered, now
        searches = quantiles(metrics.recent_searches.values())
        return ServerReport(
            server=self._server,
            pid=os.getpid(),
            started_at=self._started_at,
            at=datetime.now(UTC),
            stopped=stopped,
            release=status.serving,
            live=status.live,
            refused=None if status.refused is None else f"{status.refused.version}: {status.refused.reason}",
            overlay=None if overlay is None else overlay.all_members(),
            freshness=metrics.freshness.summary(),
            requests_per_second=round(answered / elapsed, 2),
            search_p99_ms=None if searches is None else round(searches.p99 * 1000, 2),
        )

    def _ask(self, overlay: OverlayStatus, reason: str) -> None:
        """Once for each time that a release is taken into service; the registry keeps one request for all servers."""
        with self._serving.follower.pin() as loaded:
            this = (loaded.version, loaded.loaded_at)
        status = self._serving.follower.status()
        # A release that is live already is the answer to the request, even before this server has loaded it.
        if this == self._asked_for or status.serving != status.live:
            return
        evidence = {
            "server": self._server, "release": this[0], "items": overlay.stats.touched, "bytes": overlay.stats.bytes,
            "budget_bytes": overlay.stats.budget_bytes,
        }  # fmt: skip
        entry = self._source.ask_for_release(reason, evidence, f"server {self._server}")
        self._asked_for = this
        LOG.warning("%s. Asked for at %s by %s", reason, entry.at.isoformat(), entry.actor)
