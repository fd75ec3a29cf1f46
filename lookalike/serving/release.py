"""Loading a release: every check that stands between a registered version and an answer to a person.

Order: the verdict is passed and bound to these files, the log still has every change since, each file has its
checksum, the encoder computes in the index's own space, reproduces its probe on this machine, the changes since are
replayed, and a few searches work. Whatever fails, nothing was changed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from lookalike.releases.proof import read_manifest, require_proof
from lookalike.releases.release import Release
from lookalike.search.engine import SearchEngine
from lookalike.search.overlay import Overlay
from lookalike.serving.metrics import Metrics
from lookalike.serving.overlay_follower import OverlayFollower, first_offsets, numbered
from lookalike.serving.pictures import query_decoder
from lookalike.serving.right_of_way import RightOfWay
from lookalike.storage.log.port import Log

WARM_UP_QUERIES = 4

OpenEncoder = Callable[[Path, Settings], tuple[Encoder, Probe]]


@dataclass(frozen=True)
class LoadedRelease:
    """A release in memory, ready to answer. Immutable but for its overlay; requests share it.

    `following` brings the changes since; None where the release was opened without a log.
    """

    release: Release
    verdict: Verdict
    index: SealedIndex
    encoder: Encoder
    probe_cosine: float
    engine: SearchEngine
    loaded_at: datetime
    following: OverlayFollower | None = None

    @property
    def version(self) -> str:
        """Version of the registered index."""
        return self.release.version

    @contextmanager
    def taking_over_from(self, before: "LoadedRelease | None") -> Iterator[None]:
        """Take it into service within this block; no change that was visible before is missing after."""
        if self.following is None:
            yield
            return
        with self.following.taking_over_from(before.following if before is not None else None):
            yield

    def let_go(self) -> None:
        """No request uses it any more: its overlay need not follow. Returns at once."""
        if self.following is not None:
            self.following.stop()

    def close(self) -> None:
        """`let_go`, and wait until nothing of it reads the log."""
        if self.following is not None:
            self.following.stop()
            self.following.join()


def load_release(
    release: Release,
    settings: Settings,
    reuse: LoadedRelease | None = None,
    open_encoder: OpenEncoder | None = None,
    log: Log | None = None,
    metrics: Metrics | None = None,
    way: RightOfWay | None = None,
) -> LoadedRelease:
    """Open, check and warm a release. An encoder that `reuse` has already proven is shared, not loaded again.

    With a `log`, all changes that it holds now are in the overlay on return, and a thread follows it from there,
    giving `way` to searches.
    Raises NotPromotable (verdict), CorruptArtifact (checksum), SpaceMismatch (fingerprint or probe), ChangesExpired,
    UnknownSchema, UnreadableUpdate or LogUnavailable (replay).
    """
    from index_builder.reader import open_index

    verdict = require_proof(release)
    if log is not None:  # before the files are read: that may take minutes
        first_offsets(log, numbered(read_manifest(release.index_dir).log_offsets))
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
    following = None
    if log is not None:
        overlay = Overlay(index, manifest.space.fingerprint, settings.serving.overlay_bytes)
        following = OverlayFollower(log, overlay, manifest.log_offsets, metrics or Metrics(), settings, way)
        following.replay()
    engine = search_engine(index, encoder, release.version, settings, following.overlay if following else None)
    warm_up(engine, index)
    if following is not None:
        following.start()
    return LoadedRelease(release, verdict, index, encoder, cosine, engine, datetime.now(UTC), following)


def search_engine(
    index: SealedIndex, encoder: Encoder, version: str, settings: Settings, overlay: Overlay | None = None
) -> SearchEngine:
    """An engine that answers in the name of `version`, with the changes in `overlay`."""
    return SearchEngine(
        index,
        encoder,
        version,
        pictures_root=settings.pictures_root,
        limits=settings.intake,
        decode=query_decoder(settings.intake),
        overlay=overlay,
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
