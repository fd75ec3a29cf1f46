"""Follower: keeps the release that the `live` pointer names in memory and hands it out to requests.

A background thread polls the pointer, loads a new version beside the old one, checked and warmed, and then exchanges
one reference. A request pins the release it started with until it ends, so no answer mixes two. A version that cannot
be trusted is refused and the old one keeps answering; it is tried again only after a growing pause, because a broken
file seldom mends itself but a missing mount may.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from lookalike.contracts.errors import LookalikeError
from lookalike.releases.release import Identity, LedgerEntry, Release
from lookalike.serving import garbage
from lookalike.serving.metrics import Metrics
from lookalike.serving.overlay_status import OverlayStatus
from lookalike.serving.problems import NoReleaseYet
from lookalike.serving.release import LoadedRelease
from lookalike.storage.log.port import LogUnavailable

LOG = logging.getLogger("lookalike.serving")
FIRST_RETRY_SECONDS = 60.0
LONGEST_RETRY_SECONDS = 3_600.0
LOG_RETRY_SECONDS = 1.0
"""First pause where the log was away: nothing is wrong with the release, and the check for it is cheap."""
STOP_SECONDS = 10.0


class Source(Protocol):
    """Where the live pointer is read and releases are asked for: `lookalike.releases.registry.Registry`."""

    def live(self) -> Release | None: ...

    def ask_for_release(self, reason: str, evidence: Mapping[str, Any], actor: str) -> LedgerEntry: ...

    def note_move(self, seen_by: str) -> LedgerEntry | None: ...


Load = Callable[[Release, LoadedRelease | None], LoadedRelease]


@dataclass(frozen=True)
class Refused:
    """A version that was not taken into service, and why."""

    version: str
    identity: Identity
    error: str
    reason: str
    since: datetime
    attempts: int
    next_try: float


@dataclass(frozen=True)
class Status:
    """What the server knows about the pointer now."""

    serving: str | None
    live: str | None
    refused: Refused | None
    registry_error: str | None
    polled: bool


class _Held:
    """A loaded release and the number of requests that use it."""

    def __init__(self, loaded: LoadedRelease) -> None:
        self.loaded, self.pins = loaded, 0


class Follower:
    """Thread-safe. `start` begins to poll; `pin` lends the release that is current now."""

    def __init__(
        self,
        source: Source,
        load: Load,
        metrics: Metrics,
        poll_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source, self._load, self._metrics, self._clock = source, load, metrics, clock
        self._poll_seconds = poll_seconds
        self._lock = threading.Lock()
        self._current: _Held | None = None
        self._retired: list[_Held] = []
        self._live: str | None = None
        self._refused: Refused | None = None
        self._registry_error: str | None = None
        self._polled = False
        self._releases_changed = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="release-follower", daemon=True)

    def start(self) -> None:
        """Begin to follow; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; a load under way is not waited for longer than STOP_SECONDS."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)
        with self._lock:
            held = [each.loaded for each in (*self._retired, self._current) if each is not None]
        for loaded in held:
            loaded.close()

    @contextmanager
    def pin(self) -> Iterator[LoadedRelease]:
        """The current release, kept for the whole block. Raises NoReleaseYet."""
        with self._lock:
            held = self._current
            if held is None:
                raise NoReleaseYet(self.why_not_ready())
            held.pins += 1
        try:
            yield held.loaded
        finally:
            with self._lock:
                held.pins -= 1
                self._let_go()

    def overlay(self) -> OverlayStatus | None:
        """How the overlay of the current release stands; None without one."""
        with self._lock:
            following = self._current.loaded.following if self._current else None
        return None if following is None else following.status()

    def status(self) -> Status:
        """For /readyz."""
        with self._lock:
            serving = self._current.loaded.version if self._current else None
            return Status(serving, self._live, self._refused, self._registry_error, self._polled)

    def poll(self) -> None:
        """Read the pointer once and act on it."""
        try:
            live = self._source.live()
        except Exception as error:
            self._note_registry_error(error)
            return
        current = self._current.loaded if self._current else None
        with self._lock:
            self._registry_error, self._polled = None, True
            self._live = live.version if live else None
        if live is None:
            return
        if current is not None and current.release.identity == live.identity:
            self._clear_refusal()
        elif self._due(live):
            self._take(live, current)

    def _follow(self) -> None:
        while not self._stopping.is_set():
            self.poll()
            if self._releases_changed:
                self._releases_changed = False
                garbage.sweep()
            self._stopping.wait(self._poll_seconds)

    def _due(self, live: Release) -> bool:
        refused = self._refused
        return refused is None or refused.identity != live.identity or self._clock() >= refused.next_try

    def _take(self, live: Release, current: LoadedRelease | None) -> None:
        started = time.monotonic()
        LOG.info("loading release %s from %s", live.version, live.index_dir)
        try:
            loaded = self._load(live, current)
        except Exception as error:
            self._refuse(live, error)
            return
        try:
            with loaded.taking_over_from(current):
                self._exchange(loaded)
        except Exception as error:
            loaded.let_go()
            self._refuse(live, error)
            return
        self._clear_refusal()
        self._metrics.serving(loaded.version, live.manifest_sha256, live.space, live.items)
        before = current.version if current else "none"
        LOG.info("serving release %s (before: %s), loaded in %.2f s", live.version, before, time.monotonic() - started)

    def _exchange(self, loaded: LoadedRelease) -> None:
        with self._lock:
            self._releases_changed = True
            if self._current is not None:
                self._retired.append(self._current)
            self._current = _Held(loaded)
            self._let_go()

    def _refuse(self, live: Release, error: Exception) -> None:
        again = self._refused is not None and self._refused.identity == live.identity
        attempts = self._refused.attempts + 1 if again and self._refused else 1
        since = self._refused.since if again and self._refused else datetime.now(UTC)
        first, longest = FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS
        if isinstance(error, LogUnavailable):
            first, longest = LOG_RETRY_SECONDS, FIRST_RETRY_SECONDS
        pause = min(first * 2 ** min(attempts - 1, 20), longest)
        on_purpose = isinstance(error, LookalikeError)
        reason = str(error) if on_purpose else f"unexpected {type(error).__name__}; the server's log has it"
        refused = Refused(
            live.version, live.identity, type(error).__name__, reason, since, attempts, self._clock() + pause
        )
        with self._lock:
            self._refused = refused
        self._metrics.refused(live.version, refused.error)
        still = self._current.loaded.version if self._current else "none"
        LOG.error(
            "refused release %s: %s. Still serving: %s. Next try in %.0f s", live.version, reason, still, pause,
            exc_info=None if on_purpose else error,
        )  # fmt: skip

    def _clear_refusal(self) -> None:
        with self._lock:
            self._refused = None
        self._metrics.not_refused()

    def _note_registry_error(self, error: Exception) -> None:
        on_purpose = isinstance(error, LookalikeError)
        reason = str(error) if on_purpose else f"unexpected {type(error).__name__}; the server's log has it"
        if self._registry_error != reason:  # a dead registry is one line, not one per poll
            LOG.error("cannot read the live pointer: %s", reason, exc_info=None if on_purpose else error)
        with self._lock:
            self._registry_error, self._polled = reason, True
        self._metrics.registry_errors.inc()

    def _let_go(self) -> None:
        """Drop retired releases that no request uses any more; called with the lock held."""
        for held in [held for held in self._retired if held.pins == 0]:
            self._retired.remove(held)
            held.loaded.let_go()
            self._releases_changed = True
            LOG.info("release %s is no longer used", held.loaded.version)
        self._metrics.held(len(self._retired) + (self._current is not None))

    def why_not_ready(self) -> str:
        """Why `pin` would raise NoReleaseYet."""
        if self._refused is not None:
            return f"the live release {self._refused.version} was refused: {self._refused.reason}"
        if self._registry_error is not None:
            return f"the live pointer cannot be read: {self._registry_error}"
        if self._live is not None or not self._polled:
            return "the live release is being loaded; try again in a moment"
        return "nothing is live yet: `lookalike promote` makes a release live"
