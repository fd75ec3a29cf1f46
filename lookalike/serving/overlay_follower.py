"""OverlayFollower: brings the changes since a release was built into its overlay, first all, then as they come.

A release serves only after everything that the log held has been replayed into its overlay; a thread then reads on.
What cannot be read is never skipped: an older state would be shown for ever. The partition stops there and says so.
Replays are harmless, since every message is an item's whole state and states merge.
"""

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from lookalike.contracts.change import Topic
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.settings import Settings
from lookalike.contracts.vector_update import UnknownSchema, VectorUpdate
from lookalike.search.overlay import Effect, Overlay
from lookalike.serving import garbage
from lookalike.serving.metrics import Metrics
from lookalike.serving.overlay_status import Lag, OverlayStatus
from lookalike.serving.right_of_way import Pause, RightOfWay
from lookalike.serving.seen_offsets import SeenOffsets
from lookalike.storage.log.port import Log, LogUnavailable, OffsetExpired, Record

LOG = logging.getLogger("lookalike.serving")
BATCH = 256
APPLIED_PER_KEEP = 2_000
"""Records per partition and commit while following: few enough that searches get their turn in between."""
VISIBLE = frozenset({Effect.SEARCHABLE, Effect.PATCHED, Effect.GONE})
REPLAY_BATCH = 2_048
REPLAY_WAIT_SECONDS = 1.0
REPLAY_PATIENCE = 30
"""Reads in a row that give nothing where something must be."""
LAG_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 2.0
STOP_SECONDS = 5.0
TAKE_OVER_SECONDS = 5.0
TAKE_OVER_PAUSE_SECONDS = 0.002


class ChangesExpired(LookalikeError):
    """The log no longer has all changes since the release was built."""


class UnreadableUpdate(LookalikeError):
    """A message of vector-updates that is none."""


class OverlayFollower:
    """`replay`, then `start`; `stop` when the release is let go. `seen` may be asked by any thread."""

    def __init__(
        self,
        log: Log,
        overlay: Overlay,
        start_offsets: Mapping[str, int],
        metrics: Metrics,
        settings: Settings,
        way: RightOfWay | None = None,
    ) -> None:
        """`start_offsets`: next offset of vector-updates by partition, as the manifest has them.

        While following, searches have the right of `way`; None where there are none beside.
        """
        self._way = way or RightOfWay(lambda: False)
        self.overlay, self.offsets = overlay, SeenOffsets()
        self._log, self._metrics = log, metrics
        self._poll_seconds = settings.serving.overlay_poll_seconds
        self._start = numbered(start_offsets)
        self._next: dict[int, int] = {}
        self._lag: dict[int, Lag] = {}
        self._lag_at = 0.0
        self._due: dict[int, tuple[int, float]] = {}  # by partition: an offset to reach, known since
        self._blocked: dict[int, str] = {}
        self._away: str | None = None
        self._unkept = 0
        self._turn = threading.Lock()  # held while updates are read and applied
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="overlay-follower", daemon=True)

    @property
    def partitions(self) -> int:
        """Number of partitions of every topic."""
        return self._log.partitions

    def replay(self) -> int:
        """Bring in everything that the log holds now; the number of updates.

        Raises ChangesExpired, UnknownSchema, UnreadableUpdate, LogUnavailable.
        """
        began = time.monotonic()
        first = first_offsets(self._log, self._start)
        count = sum(self._replay_partition(partition, offset) for partition, offset in first.items())
        self._measure_lag()
        LOG.info("replayed %d updates into the overlay in %.2f s", count, time.monotonic() - began)
        return count

    def start(self) -> None:
        """Follow the log from where the replay ended; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end after its next read; returns at once. Harmless when it never ran."""
        self._stopping.set()

    def join(self) -> None:
        """Wait for the thread to end, at most STOP_SECONDS."""
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    @contextmanager
    def taking_over_from(self, before: "OverlayFollower | None") -> Iterator[None]:
        """Exchange the releases within this block: whatever was visible in the one before is visible in this one.

        The one before stands still meanwhile. Raises LogUnavailable when this one does not get as far in time.
        """
        if before is None:
            yield
            return
        with before._turn:
            target, deadline = dict(before._next), time.monotonic() + TAKE_OVER_SECONDS
            while any(self._next.get(partition, 0) < offset for partition, offset in target.items()):
                if time.monotonic() > deadline:
                    raise LogUnavailable(
                        f"the new release could not read up to {target} of {Topic.UPDATES}, as the one before has: "
                        f"{self.status().problem or 'the log is slow'}"
                    )
                time.sleep(TAKE_OVER_PAUSE_SECONDS)
            yield

    def seen(self) -> dict[int, int]:
        """Highest offset of catalogue-changes whose effect is visible here, by partition."""
        return self.offsets.seen()

    def status(self) -> OverlayStatus:
        """For /readyz, /metrics and reports."""
        problems = [self._away, *(reason for _, reason in sorted(self._blocked.items()))]
        said = "; ".join(problem for problem in problems if problem)
        return OverlayStatus(self.overlay.stats(), self.seen(), dict(self._lag), said or None)

    # Replay

    def _replay_partition(self, partition: int, first: int) -> int:
        log, count, patience = self._log, 0, REPLAY_PATIENCE
        end = log.high_watermark(Topic.UPDATES, partition)
        self._next[partition] = first
        self._see_before(partition, first)
        while self._next[partition] < end:
            records = log.read(Topic.UPDATES, partition, self._next[partition], REPLAY_BATCH, REPLAY_WAIT_SECONDS)
            if not records:
                if log.low_watermark(Topic.UPDATES, partition) >= end:
                    self._next[partition] = end  # all of it expired while we read
                    break
                patience -= 1
                if patience == 0:
                    raise LogUnavailable(
                        f"{Topic.UPDATES}, partition {partition}: nothing can be read from offset "
                        f"{self._next[partition]} although messages reach to {end - 1}"
                    )
                continue
            patience = REPLAY_PATIENCE
            self._apply([(record, decode(record)) for record in records])
            self._next[partition] = records[-1].offset + 1
            count += len(records)
        return count

    def _see_before(self, partition: int, first: int) -> None:
        """What the release itself covers was seen: the message before the first one says up to where."""
        if first > max(0, self._log.low_watermark(Topic.UPDATES, partition)):
            before = self._log.read(Topic.UPDATES, partition, first - 1, 1)
            origin = decode(before[0]).origin if before and before[0].offset < first else None
            if origin is not None and origin.partition == partition:
                self.offsets.advance([origin])

    # Following

    def _follow(self) -> None:
        pause = self._poll_seconds
        while not self._stopping.wait(pause):
            try:
                with self._turn:
                    more = self._poll()
                self._away = None
                pause = 0.0 if more else self._poll_seconds
            except OffsetExpired as error:
                pause = self._stay_away(f"{error}. Changes are missing here from now on: build a new release", pause)
            except LookalikeError as error:
                pause = self._stay_away(str(error), pause)
            except Exception as error:
                if self._away is None:
                    LOG.exception("the overlay cannot follow the log")
                pause = self._stay_away(f"unexpected {type(error).__name__}; the server's log has it", pause)

    def _stay_away(self, reason: str, pause: float) -> float:
        """Say that changes do not arrive; seconds until the next try."""
        if self._away is None:
            LOG.error("changes do not arrive: %s. Searches go on; trying again", reason)
        self._away = reason
        self._metrics.overlay.log_errors.inc()
        return min(max(2 * pause, 0.05), LONGEST_PAUSE_SECONDS)

    def _poll(self) -> bool:
        """Read what there is in all partitions and show it with one commit; whether there is more."""
        found: list[tuple[Record, VectorUpdate]] = []
        pause = self._way.group()
        ends: dict[int, int] = {}
        more = False
        for partition, offset in self._next.items():
            if partition in self._blocked:
                continue
            records = self._log.read(Topic.UPDATES, partition, offset, BATCH)
            more |= len(records) == BATCH
            for record in records:
                try:
                    found.append((record, decode(record)))
                except LookalikeError as error:
                    self._block(partition, error)
                    break
                ends[partition] = record.offset + 1
                pause()
        if found:
            self._apply(found, pause)
            self._next |= ends
        if time.monotonic() - self._lag_at > LAG_SECONDS:
            self._measure_lag()
        return more

    def _block(self, partition: int, error: LookalikeError) -> None:
        self._blocked[partition] = f"{error}. Changes of partition {partition} stop there until the server is restarted"
        LOG.error("%s", self._blocked[partition])

    def _apply(self, found: Sequence[tuple[Record, VectorUpdate]], pause: Pause | None = None) -> None:
        """Show these; with `pause`, live ones, of which it is measured when."""
        all_applied = self.overlay.apply([update for _, update in found], pause)
        self._unkept += len(found)
        if self._unkept >= APPLIED_PER_KEEP:
            self._unkept = 0
            garbage.keep()
        # Elsewhere a mark may come before the updates that it speaks of.
        self.offsets.advance([update.origin for record, update in found if update.origin.partition == record.partition])
        records = [record for record, update in found if update.state is not None]
        for record, applied in zip(records, all_applied, strict=True):
            self._metrics.overlay.applied.labels(applied.effect.value).inc()
            if pause and applied.effect in VISIBLE and applied.kind and applied.event_time:
                self._metrics.freshness.note(record.partition, record.offset, applied.kind, applied.event_time)

    def _measure_lag(self) -> None:
        """Asks for watermarks only: a read would move the reader away from where it stands."""
        self._lag_at = now = time.monotonic()
        for partition, offset in self._next.items():
            high = self._log.high_watermark(Topic.UPDATES, partition)
            due, since = self._due.get(partition, (0, now))
            if offset >= due:
                due, since = self._due[partition] = high, now
            self._lag[partition] = Lag(max(0, high - offset), round(now - since, 3) if offset < due else 0.0)


def numbered(offsets: Mapping[str, int]) -> dict[int, int]:
    """A manifest's `log_offsets` by number of partition."""
    return {int(partition): offset for partition, offset in offsets.items()}


def first_offsets(log: Log, covered: Mapping[int, int]) -> dict[int, int]:
    """First offset of vector-updates to replay, by partition. Raises ChangesExpired, LogUnavailable.

    A partition that the release says nothing of is replayed from the lowest offset there is; so is one whose log ends
    before what the release covers, for then it is another log.
    """
    first: dict[int, int] = {}
    for partition in range(log.partitions):
        low = log.low_watermark(Topic.UPDATES, partition)
        offset = covered.get(partition, low)
        if offset < low:
            raise ChangesExpired(
                f"the release covers {Topic.UPDATES}, partition {partition}, up to offset {offset}, but the log has "
                f"it from {low} only: changes in between have expired. Run the nightly merge and build a new release, "
                f"or raise log.retention_hours"
            )
        high = log.high_watermark(Topic.UPDATES, partition)
        if offset > high:
            LOG.warning(
                "the release covers %s, partition %d, up to offset %d, but the log ends at %d: it is another log and "
                "is replayed from its start", Topic.UPDATES, partition, offset, high,
            )  # fmt: skip
            offset = low
        first[partition] = offset
    return first


def decode(record: Record) -> VectorUpdate:
    """Read a message of vector-updates. Raises UnknownSchema or UnreadableUpdate that name its place."""
    where = f"{Topic.UPDATES}, partition {record.partition}, offset {record.offset}"
    try:
        return VectorUpdate.decode(record.value)
    except UnknownSchema as error:
        raise UnknownSchema(f"{where}: {error}") from error
    except Exception as error:  # whatever is wrong with it, it must not be passed over
        raise UnreadableUpdate(f"{where}: not a vector update ({type(error).__name__}: {error})") from error
