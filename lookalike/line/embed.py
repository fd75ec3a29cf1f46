"""SILVER → EMBEDDINGS for the configured encoder's space. Spark starts only when a vector is missing."""

from typing import TYPE_CHECKING

from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings

if TYPE_CHECKING:
    from spark.embed import EmbedReport


def embed(settings: Settings, progress: Progress) -> "EmbedReport | None":
    """Embed what changed; None when every item has its vector already."""
    from models.encoders import open_encoder
    from spark.embed import embed as run
    from spark.embed import pending
    from spark.session import start

    encoder = open_encoder(settings.encoder.path, device="cpu", threads=1)
    if pending(settings, encoder.space) == 0:
        return None
    return run(start(settings, "lookalike-embed"), settings, progress)
