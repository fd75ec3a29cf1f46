"""Reading the log in Beam: an unbounded splittable DoFn over the log port, one element per partition.

The restriction is the offsets still to read; each call of process() takes one batch, claims its last offset and
defers the rest. No local runner keeps offsets, so a reader starts where its group's commits (or its own `resume`)
say, and whoever deals with the records commits. A drain ends the pipeline: every reader claims the end.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Duration, Timestamp

from beam.gather import Gatherer, Source
from beam.pipelines import drain_file
from lookalike.contracts.change import Topic
from lookalike.contracts.settings import Settings
from lookalike.storage.log.opening import open_log
from lookalike.storage.log.port import Log, Record

LOG = logging.getLogger("lookalike.stream")

END = 2**63 - 1
"""Offset beyond all others; who claims the one before it is done for good."""
FIRST = -1
"""`previous` of a reader's first record."""

Resume = Callable[[Settings, Topic, int], int | None]
"""Next offset to read of a topic's partition, asked instead of the group's commits; None: the whole log. It is sent
to workers, so it must be a function of a module."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A record of the log. `previous` is the offset of the record that the same reader gave before it for this topic
    and partition, FIRST for its first since the pipeline started: with it, a hole can be seen.
    """

    topic: Topic
    partition: int
    offset: int
    previous: int
    key: bytes
    value: bytes
    appended_ms: int


class Span(OffsetRange):  # type: ignore[misc]
    """Offsets `start` (included) to `stop`, of a reader that began at `begin`."""

    def __init__(self, start: int, stop: int, begin: int) -> None:
        super().__init__(start, stop)
        self.begin = begin

    def split_at(self, split_pos: int) -> "tuple[Span, Span]":
        return Span(self.start, split_pos, self.begin), Span(split_pos, self.stop, self.begin)

    @property
    def previous(self) -> int:
        """Offset of the record before `start`: a span begins after what was claimed last."""
        return FIRST if self.start == self.begin else self.start - 1


class SpanTracker(OffsetRestrictionTracker):  # type: ignore[misc]
    """Claims offsets of an endless partition; splits at checkpoints only, since a partition has one order."""

    def is_bounded(self) -> bool:
        return False

    def try_split(self, fraction_of_remainder: float) -> Any:
        return super().try_split(0) if fraction_of_remainder == 0 else None


class ReadBatchesFn(beam.DoFn, RestrictionProvider):  # type: ignore[misc]
    """Source → tuples of LogRecord, each from one partition, in order and without a hole."""

    def __init__(
        self, settings: Settings, group: str, seconds: float, records: int, resume: Resume | None = None
    ) -> None:
        self._settings, self._group = settings, group
        self._seconds, self._records, self._resume = seconds, records, resume
        self._log: Log | None = None

    def setup(self) -> None:
        self._log = open_log(self._settings)
        delays = {Topic.LATER: self._settings.stream.retry_seconds}
        self._gatherer = Gatherer(self._log, self._seconds, self._records, delays, self._drained)

    def teardown(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    def start_bundle(self) -> None:
        self._gatherer.new_bundle()

    @beam.DoFn.unbounded_per_element()  # type: ignore[untyped-decorator]
    def process(
        self,
        element: Source,
        tracker: Any = beam.DoFn.RestrictionParam(),  # noqa: B008
        watermark: Any = beam.DoFn.WatermarkEstimatorParam(ManualWatermarkEstimator.default_provider()),  # noqa: B008
    ) -> Iterator[Any]:
        span = tracker.current_restriction()
        records = [] if self._drained() else self._gatherer.take(element, span.start)
        if records and tracker.try_claim(records[-1].offset):  # refused: a checkpoint left them to the remainder
            at = Timestamp(micros=records[-1].appended_ms * 1000)
            if watermark.current_watermark() is None or watermark.current_watermark() < at:
                watermark.set_watermark(at)
            yield TimestampedValue(_batch(element, records, span.previous), at)
        if not records and self._drained():
            tracker.try_claim(END - 1)
        else:
            tracker.defer_remainder(Duration.of(0 if records else self._seconds))

    def initial_restriction(self, element: Source) -> Span:
        """From where the group stopped."""
        log = self._log or open_log(self._settings)
        try:
            start = self._start(log, element)
        finally:
            if log is not self._log:
                log.close()
        return Span(start, END, start)

    def create_tracker(self, restriction: Span) -> SpanTracker:
        return SpanTracker(restriction)

    def restriction_size(self, element: Source, restriction: Span) -> float:
        """All partitions count alike: what waits is known to the log, and asking it here would cost every bundle."""
        return 1.0

    def truncate(self, element: Source, restriction: Span) -> None:
        """When a distributed runner drains, nothing more is read."""
        return

    def _start(self, log: Log, source: Source) -> int:
        lowest = log.low_watermark(source.topic, source.partition)
        if self._resume is None:
            known = log.committed(self._group, source.topic).get(source.partition)
        else:
            known = self._resume(self._settings, source.topic, source.partition)
        start = lowest if known is None else known
        if start < lowest:
            LOG.error(
                "%s, partition %d: records %d to %d expired before %s read them; going on from %d. Raise "
                "log.retention_hours above the longest time for which the stream stands still",
                source.topic, source.partition, start, lowest - 1, self._group, lowest,
            )  # fmt: skip
        return max(start, lowest)

    def _drained(self) -> bool:
        return drain_file(self._settings, self._group).exists()


class ReadBatches(beam.PTransform):  # type: ignore[misc,type-arg]
    """Every partition of `topics` as tuples of LogRecord: at most `records`, at most one per partition and `seconds`
    unless so many wait. Endless until drained.
    """

    def __init__(
        self,
        settings: Settings,
        topics: tuple[Topic, ...],
        group: str,
        seconds: float,
        records: int,
        resume: Resume | None = None,
    ) -> None:
        super().__init__()
        self._settings, self._topics = settings, topics
        self._reader = ReadBatchesFn(settings, group, seconds, records, resume)

    def expand(self, pbegin: Any) -> Any:
        sources = [Source(topic, n) for topic in self._topics for n in range(self._settings.log.partitions)]
        return (
            pbegin
            | "Partitions" >> beam.Create(sources, reshuffle=False)
            | "Batches" >> beam.ParDo(self._reader).with_output_types(tuple[LogRecord, ...])
        )


class ReadLog(beam.PTransform):  # type: ignore[misc,type-arg]
    """Every record of `topics` as LogRecord, per partition in order, from where `group` stopped; endless until
    drained. Records of the topic LATER come when they have lain settings.stream.retry_seconds.
    """

    def __init__(self, settings: Settings, topics: tuple[Topic, ...], group: str, resume: Resume | None = None) -> None:
        super().__init__()
        stream = settings.stream
        self._batches = ReadBatches(settings, topics, group, stream.linger_seconds, stream.bundle_records, resume)

    def expand(self, pbegin: Any) -> Any:
        return pbegin | self._batches | "Records" >> beam.ParDo(_EachRecordFn()).with_output_types(LogRecord)


class _EachRecordFn(beam.DoFn):  # type: ignore[misc]
    def process(self, element: tuple[LogRecord, ...]) -> Iterator[LogRecord]:
        yield from element


def _batch(source: Source, records: list[Record], previous: int) -> tuple[LogRecord, ...]:
    before = [previous, *(record.offset for record in records)]
    return tuple(
        LogRecord(source.topic, source.partition, record.offset, last, record.key, record.value, record.appended_ms)
        for last, record in zip(before, records, strict=False)
    )
