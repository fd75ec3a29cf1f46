"""The runner of one machine: Beam's in-process FnApiRunner, without its growth.

FnApiRunner chains the measurements of every bundle into a generator that nobody reads before the pipeline ends, which
in a stream is never: about 25 KB a bundle, 50 MB a minute. They are dropped here; the stream counts by itself.
"""

from collections.abc import Iterable
from typing import Any

from apache_beam.runners.portability.fn_api_runner import fn_runner

CONSOLIDATE = "consolidate_monitoring_infos"
"""Name of the function in fn_runner."""


class LocalRunner(fn_runner.FnApiRunner):  # type: ignore[misc]
    """FnApiRunner for endless pipelines; its result has no metrics. One at a time in a process."""

    def run_stages(self, *arguments: Any, **options: Any) -> Any:
        consolidate = getattr(fn_runner, CONSOLIDATE)
        setattr(fn_runner, CONSOLIDATE, _forget)
        try:
            return super().run_stages(*arguments, **options)
        finally:
            setattr(fn_runner, CONSOLIDATE, consolidate)


def _forget(infos: Iterable[Any]) -> list[Any]:
    return []
