"""The enriching pipeline: catalogue changes in, item states with vectors out.

    read → parse → fetch pictures → embed → publish

A straight line of element-wise stages. There are no timers, windows, per-key state, side inputs and groupings, which
local runners get wrong or slow: what an item was is in a store beside the job, order is kept per bundle, and publishing
is idempotent. From the second stage on a bundle is one element, so that it stays whole whatever a runner fuses.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import RunInference
from apache_beam.transforms.window import GlobalWindows

from beam.counts import add, counts
from beam.elements import Change
from beam.embed import EmbedHandler
from beam.job import Job, job_of
from beam.parse import parse_record
from beam.publish import GROUP
from beam.read import LogRecord, ReadLog
from lookalike.contracts.change import Topic
from lookalike.contracts.settings import Settings

__all__ = ["GROUP", "counts", "enrich", "prepare"]


def enrich(pipeline: beam.Pipeline, settings: Settings) -> None:
    """Build the pipeline: `catalogue-changes` and its parked changes → `vector-updates`, `refused`, parked again."""
    _ = (
        pipeline
        | "Read" >> ReadLog(settings, (Topic.CHANGES, Topic.LATER), GROUP)
        | "Parse" >> beam.ParDo(ParseFn(settings)).with_output_types(Change)
        | "Fetch" >> beam.ParDo(FetchFn(settings)).with_output_types(list[Change])
        | "Embed" >> RunInference(EmbedHandler(settings)).with_output_types(list[Change])
        | "Publish" >> beam.ParDo(PublishFn(settings))
    )


def prepare(settings: Settings) -> None:
    """Open all that the pipeline needs in this process: a worker does so before the one that it replaces drains."""
    job_of(settings)


class ParseFn(beam.DoFn):  # type: ignore[misc]
    """LogRecord → Change."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def process(self, element: LogRecord) -> Iterator[Change]:
        yield parse_record(element, self._settings.log.partitions, self._settings.intake)


class _JobFn(beam.DoFn):  # type: ignore[misc]
    """A stage that uses what its process holds open."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def setup(self) -> None:
        self._job: Job = job_of(self._settings)


class FetchFn(_JobFn):
    """Changes → one list of all changes of the bundle, with their pictures."""

    def setup(self) -> None:
        super().setup()
        self._fetching = self._job.fetching()

    def start_bundle(self) -> None:
        self._fetching.new_bundle()

    def process(self, element: Change) -> None:
        self._fetching.take(element)

    def finish_bundle(self) -> Iterable[Any]:
        if changes := self._fetching.finish():
            yield GlobalWindows.windowed_value(changes)


class PublishFn(_JobFn):
    """Lists of changes → messages of the log."""

    def process(self, element: list[Change]) -> None:
        add(self._job.publisher.publish(element))
