"""The pipelines of the stream by name, and how a process of the supervisor tells a worker what to do.

Light on purpose: the supervisor imports it, and Beam only where a worker runs.
"""

from pathlib import Path

from lookalike.contracts.change import Topic
from lookalike.contracts.settings import Settings

READS: dict[str, tuple[Topic, ...]] = {
    "enrich": (Topic.CHANGES, Topic.LATER),
    "archive": (Topic.UPDATES, Topic.REFUSED),
}
"""Pipelines, in the order in which changes pass them, and the topics that each reads. Each commits offsets to the log
under its own name as the group; `beam.NAME.NAME(pipeline, settings)` builds it."""

READY, GO, DRAIN = "READY", "GO", "DRAIN"
"""A worker reads its settings (JSON, one line) on stdin and says READY when it could begin; GO lets it, DRAIN or the
end of stdin make it end. While it runs it writes one line of JSON a second, see `beam.worker.Beat`."""


def drain_file(settings: Settings, group: str) -> Path:
    """While this file is there, readers of the group on this machine end as soon as they can."""
    return settings.stream_root / f"{group}.drain"
