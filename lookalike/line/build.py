"""EMBEDDINGS → index candidate in one go: the steps of `build_steps` in order.

When a release with the same tables, space and recipe exists already, that one is the candidate again: a night without
changes builds nothing. A fold that changed no table only moves the watermark, which does not make another release:
servers replay a little more, and replaying twice is harmless.
"""

import time
from dataclasses import replace

from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings
from lookalike.line.build_shards import encode_all
from lookalike.line.build_steps import BuildReport, merge, pin, train


def build(settings: Settings, progress: Progress, recipe: str | None = None, encoder: str | None = None) -> BuildReport:
    """Build and register a candidate, or name the release that holds exactly this already.

    Killed and run again it goes on with what is finished. `encoder`: see `build_steps.pin`.
    """
    started = time.monotonic()
    pinned = pin(settings, recipe, encoder)
    if not pinned.reused:
        train(settings, progress, pinned.build)
        encode_all(settings, progress, pinned.build)
    report = merge(settings, progress, pinned.build)
    return replace(report, reused=pinned.reused, seconds=time.monotonic() - started)
