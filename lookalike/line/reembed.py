"""Re-embed: the whole catalogue in another encoder's space, beside the one that serves.

`run` announces the encoder first, so that from then on the stream and the nightly run write its vectors too, then
embeds what is left, in chunks that a killed run need not do again. Old and new vectors never meet: each has its space,
and the job refuses an encoder that is not the one it was planned for.
"""

from dataclasses import dataclass
from pathlib import Path

from lookalike.contracts.errors import LookalikeError, NotFound
from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.line.check_tables import TableChecks, check_embeddings
from lookalike.line.embed import embed
from lookalike.line.incoming_encoder import announce
from lookalike.releases.encoder_in_use import with_encoder
from lookalike.releases.registry import Registry


class AnotherEncoderIncoming(LookalikeError):
    """A re-embed was asked for while another encoder is announced; one at a time, or the stream would do too much."""


@dataclass(frozen=True)
class ReembedPlan:
    """What `run` would do. `live`: the space is the one that serves, so that nothing is announced."""

    encoder: str
    space: str
    live: bool
    items: int
    done: int
    copied: int
    pictures: int
    chunks: int


@dataclass(frozen=True)
class ReembedReport:
    """What one run did: `embedded` items (of them `reused` by their picture), `refused` ones; `left` have no vector."""

    encoder: str
    space: str
    embedded: int
    reused: int
    refused: int
    left: int
    seconds: float


def plan_reembed(settings: Settings, encoder: str) -> ReembedPlan:
    """Check the encoder against its probe and count what is left in its space; changes no table and announces nothing.

    Raises NotFound (encoder, tables), AnotherEncoderIncoming, SpaceMismatch (the probe is not reproduced here).
    """
    from models.encoders import open_encoder, read_probe
    from spark.embed_plan import plan

    opened = open_encoder(encoder, device="cpu", threads=1)
    read_probe(encoder).require(opened)
    space = opened.space
    live = _is_live(settings, space)
    if not live:
        _require_no_other(settings, space)
    left = plan(settings, space)
    return ReembedPlan(
        space.encoder, space.fingerprint, live, left.items, left.done, left.copied, left.pictures, left.chunks
    )


def run_reembed(
    settings: Settings, encoder: str | None, progress: Progress, items_per_second: float = 0.0
) -> ReembedReport:
    """Announce the encoder and fill its space, at most so many pictures per second (0: as fast as it goes).

    `encoder` None goes on with the announced one. Raises NotFound, AnotherEncoderIncoming, SpaceMismatch (the encoder
    does not reproduce its probe here).
    """
    from spark.embed_plan import plan

    path = encoder or str(announced(settings))
    space = _space_of(path)
    if not _is_live(settings, space):
        _require_no_other(settings, space)
        path = str(announce(settings, path).folder)
    done = embed(with_encoder(settings, path), progress, items_per_second)
    left = plan(settings, space)
    return ReembedReport(
        encoder=space.encoder,
        space=space.fingerprint,
        embedded=done.embedded + done.reused if done else 0,
        reused=done.reused if done else 0,
        refused=done.refused if done else 0,
        left=left.items - left.done,
        seconds=done.seconds if done else 0.0,
    )


def check_reembed(settings: Settings, encoder: str | None) -> TableChecks:
    """Judge the vectors in the encoder's space (None: of the announced one). Raises NotFound."""
    return check_embeddings(settings, encoder or str(announced(settings)))


def announced(settings: Settings) -> Path:
    """Folder of the announced encoder. Raises NotFound."""
    folder = Registry(settings).incoming_encoder()
    if folder is None:
        raise NotFound("no re-embed is under way; name the encoder: `lookalike reembed run --encoder PATH`")
    return folder


def _space_of(path: str) -> EmbeddingSpace:
    from models.encoders import open_encoder

    return open_encoder(path, device="cpu", threads=1).space


def _is_live(settings: Settings, space: EmbeddingSpace) -> bool:
    live = Registry(settings).live()
    return live is not None and live.space == space.fingerprint


def _require_no_other(settings: Settings, space: EmbeddingSpace) -> None:
    folder = Registry(settings).incoming_encoder()
    if folder is None:
        return
    other = _space_of(str(folder))
    live = Registry(settings).live()
    if other.fingerprint not in (space.fingerprint, live.space if live else None):
        raise AnotherEncoderIncoming(
            f"{space.encoder} (space {space.fingerprint}) cannot be re-embedded with now: {other.encoder} (space "
            f"{other.fingerprint}) is incoming already, in {folder}; bring that one live first, or take it back with "
            "`lookalike encoder withdraw`"
        )
