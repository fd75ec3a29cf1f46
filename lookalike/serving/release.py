"""Loading a release: every check that stands between a registered version and an answer to a person.

Order: the verdict is passed and bound to these files, each file has its checksum, the encoder computes in the index's
own space, reproduces its probe on this machine, and a few searches work. Whatever fails, nothing was changed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lookalike.contracts.encoder import Encoder
from lookalike.contracts.errors import CorruptArtifact
from lookalike.contracts.probe import Probe
from lookalike.contracts.query import QueryPart, SearchQuery
from lookalike.contracts.sealed_index import SealedIndex
from lookalike.contracts.settings import Settings
from lookalike.contracts.verdict import Verdict
from lookalike.releases.proof import require_proof
from lookalike.releases.release import Release
from lookalike.search.engine import SearchEngine
from lookalike.serving.pictures import query_decoder

WARM_UP_QUERIES = 4

OpenEncoder = Callable[[Path, Settings], tuple[Encoder, Probe]]


@dataclass(frozen=True)
class LoadedRelease:
    """A release in memory, ready to answer. Immutable; requests share it."""

    release: Release
    verdict: Verdict
    index: SealedIndex
    encoder: Encoder
    probe_cosine: float
    engine: SearchEngine
    loaded_at: datetime

    @property
    def version(self) -> str:
        """Version of the registered index."""
        return self.release.version


def load_release(
    release: Release,
    settings: Settings,
    reuse: LoadedRelease | None = None,
    open_encoder: OpenEncoder | None = None,
) -> LoadedRelease:
    """Open, check and warm a release. An encoder that `reuse` has already proven is shared, not loaded again.

    Raises NotPromotable (verdict), CorruptArtifact (checksum), SpaceMismatch (fingerprint or probe).
    """
    from index_builder.reader import open_index

    verdict = require_proof(release)
    index = open_index(release.index_dir, verify=True)
    manifest = index.manifest
    if manifest.sha256 != release.manifest_sha256:
        raise CorruptArtifact(f"{release.index_dir} is not the artifact that was registered as {release.version}")
    if reuse is not None and reuse.release.encoder_dir == release.encoder_dir:
        encoder, cosine = reuse.encoder, reuse.probe_cosine
        manifest.space.require(encoder.space.fingerprint, f"encoder {release.encoder_dir}")
    else:
        encoder, probe = (open_encoder or open_kept_encoder)(release.encoder_dir, settings)
        manifest.space.require(encoder.space.fingerprint, f"encoder {release.encoder_dir}")
        cosine = probe.require(encoder)
    engine = search_engine(index, encoder, release.version, settings)
    warm_up(engine, index)
    return LoadedRelease(release, verdict, index, encoder, cosine, engine, datetime.now(UTC))


def search_engine(index: SealedIndex, encoder: Encoder, version: str, settings: Settings) -> SearchEngine:
    """An engine that answers in the name of `version`."""
    return SearchEngine(
        index,
        encoder,
        version,
        pictures_root=settings.pictures_root,
        limits=settings.intake,
        decode=query_decoder(settings.intake),
    )


def open_kept_encoder(folder: Path, settings: Settings) -> tuple[Encoder, Probe]:
    """The encoder beside the release, and its probe. One thread per search: the search threads share the cores."""
    from models.encoders import open_encoder, read_probe

    encoder = open_encoder(str(folder), device=settings.encoder.device, threads=settings.encoder.threads or 1)
    return encoder, read_probe(str(folder))


def warm_up(engine: SearchEngine, index: SealedIndex) -> None:
    """Search for the titles of a few items, so that pages are in memory before the first person asks."""
    for title in index.columns.column("title")[:WARM_UP_QUERIES].to_pylist():
        engine.search(SearchQuery(parts=(QueryPart(text=title),)))
    engine.facets()
