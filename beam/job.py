"""What a worker process of the enriching pipeline holds open: log, state store, releases with encoders, threads.

Held once per process and settings, for all stages; made on first use, so that a stage carries settings only and can be
sent to any worker. It stays until the process ends or `close_jobs` is called.
"""

import logging
import threading

from beam.fetch import Fetching
from beam.known_vectors import KnownVectors
from beam.lookups import Finder, Lookups
from beam.publish import Publisher
from beam.releases import ReleaseFollower, follow_registry
from beam.state_store import StateStore
from lookalike.contracts.settings import Settings
from lookalike.storage.delta import DeltaTables
from lookalike.storage.log.opening import open_log

LOG = logging.getLogger("lookalike.stream")
STORE_NAME = "items.db"
_LOCK = threading.Lock()
_JOBS: dict[str, "Job"] = {}


class Job:
    """Opened and caught up. Raises what stands in the way, in words for the operator."""

    def __init__(self, settings: Settings, releases: ReleaseFollower) -> None:
        self.settings, self.releases = settings, releases
        releases.start()
        tables = DeltaTables(settings.tables_root)
        self.log = open_log(settings)
        self.store = StateStore(settings.stream_root / STORE_NAME)
        known = KnownVectors(self.store, tables)
        known.load(releases.now.encoders)
        self.lookups = Lookups(Finder(settings, self.store, known, releases, tables), settings)
        self.publisher = Publisher(self.log, self.store, releases, settings)
        self.publisher.catch_up()

    def fetching(self) -> Fetching:
        """For one stage: what it gathers bundle by bundle."""
        return Fetching(self.lookups, self.store, self.releases, self.settings)

    def close(self) -> None:
        """End the threads and let go of the files."""
        self.releases.stop()
        self.lookups.close()
        self.store.close()
        self.log.close()


def job_of(settings: Settings) -> Job:
    """The process's job for these settings; the first call opens everything, which takes seconds."""
    key = settings.model_dump_json()
    with _LOCK:
        if key not in _JOBS:
            _JOBS[key] = Job(settings, follow_registry(settings))
        return _JOBS[key]


def close_jobs() -> None:
    """Close all, as at the end of the process."""
    with _LOCK:
        for job in _JOBS.values():
            job.close()
        _JOBS.clear()
