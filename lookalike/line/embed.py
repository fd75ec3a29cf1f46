"""SILVER → EMBEDDINGS, in the space of the encoder in use or in all that are in use. Spark starts only when needed."""

from typing import TYPE_CHECKING

from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings
from lookalike.releases.encoder_in_use import encoder_in_use, with_encoder

if TYPE_CHECKING:
    from spark.embed import EmbedReport


def embed(settings: Settings, progress: Progress, pictures_per_second: float = 0.0) -> "EmbedReport | None":
    """Embed what changed, in the space of the encoder in use, at most so fast (0: as fast as it goes).

    None when every item has its vector already.
    """
    from models.encoders import open_encoder
    from spark.embed import embed as run
    from spark.embed import pending
    from spark.session import start

    path = encoder_in_use(settings)
    encoder = open_encoder(path, device="cpu", threads=1)
    if pending(settings, encoder.space) == 0:
        return None
    chosen = with_encoder(settings, path)  # also when `live` moves meanwhile
    return run(start(settings, "lookalike-embed"), chosen, progress, pictures_per_second=pictures_per_second)


def embed_spaces(settings: Settings, progress: Progress) -> "list[EmbedReport]":
    """Embed what changed in every space in use: of the encoder in use, of live and previous, of one to come.

    Spaces where every item has its vector already are left out of the answer.
    """
    from spark.embed_spaces import encoders_in_use

    done = [embed(with_encoder(settings, path), progress) for path in encoders_in_use(settings)]
    return [report for report in done if report is not None]
