"""CHANGES → SILVER and EMBEDDINGS: the stream's changes into the nightly tables. Spark starts only when some wait."""

from typing import TYPE_CHECKING

from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings

if TYPE_CHECKING:
    from spark.fold import FoldReport


def fold(settings: Settings, progress: Progress) -> "FoldReport | None":
    """Fold what the stream archived; None when everything is in the tables already."""
    from spark.fold import fold as run
    from spark.fold import pending
    from spark.session import start

    if pending(settings) == 0:
        return None
    return run(start(settings, "lookalike-fold"), settings, progress)
