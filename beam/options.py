"""Pipelines for a runner: built with its options, as a portable proto, or submitted to a cluster.

The local runner needs none of this (`beam.worker`). Elsewhere each pipeline is one job that the cluster restarts and
drains; the log must then be Kafka and the tables must lie where every worker reaches them.
"""

import importlib
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions, StandardOptions
from apache_beam.runners.portability.portable_runner import PortableRunner

from beam.pipelines import READS
from lookalike.contracts.errors import MissingPrerequisite, SettingsError
from lookalike.contracts.settings import Settings

SAME_MACHINE = ("PrismRunner", "DirectRunner")
"""Runners beside the local one that reach the files of this machine."""


def runner_options(runner: str, extra: Sequence[str]) -> PipelineOptions:
    """Options of an endless job. `extra`: the runner's own, as --key=value. Raises SettingsError."""
    wrong = [option for option in extra if not option.startswith("--")]
    if wrong:
        raise SettingsError(f"--option {wrong[0]}: write it as the runner does, e.g. --option --parallelism=4")
    return PipelineOptions([f"--runner={runner}", "--streaming", *extra])


def add_pipeline(name: str, pipeline: beam.Pipeline, settings: Settings) -> None:
    """Add all transforms of the pipeline `name` (a key of READS) to `pipeline`."""
    getattr(importlib.import_module(f"beam.{name}"), name)(pipeline, settings)


def portable_proto(name: str, settings: Settings, options: PipelineOptions) -> Any:
    """The pipeline `name` as the proto that runners of any language take, in the environment of `options`."""
    # A runner that does nothing at construction: that of the options may need packages that only submitting needs.
    pipeline = beam.Pipeline(runner=PortableRunner(), options=options)
    add_pipeline(name, pipeline, settings)
    environment = PortableRunner._create_environment(options.view_as(PortableOptions))
    return pipeline.to_runner_api(default_environment=environment)


def submit(settings: Settings, runner: str, extra: Sequence[str]) -> dict[str, Any]:
    """Start every pipeline as a job on `runner` and return Beam's results by name. Raises LookalikeError."""
    if settings.log.kind != "kafka" and runner not in SAME_MACHINE:
        raise SettingsError(
            f"--runner {runner} works on several machines, but log.kind = {settings.log.kind} is a file of this one. "
            "Set log.kind = kafka and log.brokers, and tables.root to a store that every worker reaches"
        )
    results = {}
    for name in READS:
        options = runner_options(runner, extra)
        try:
            pipeline = beam.Pipeline(options=options)
        except ImportError as error:
            raise MissingPrerequisite(f"--runner {runner} cannot be loaded: {error}") from error
        except ValueError as error:
            known = ", ".join(StandardOptions.KNOWN_RUNNER_NAMES)
            raise SettingsError(
                f"--runner {runner} is not a runner that Beam knows ({error}). Known: {known}"
            ) from error
        add_pipeline(name, pipeline, settings)
        results[name] = pipeline.run()
    return results
