"""What the gate measures, each from an independent source: the tables, pictures encoded again, timed queries."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from lookalike.catalogue.intake import decode_picture, read_picture
from lookalike.contracts.encoder import Encoder
from lookalike.contracts.probe import Probe
from lookalike.contracts.product import Refusal
from lookalike.contracts.query import QueryPart, SearchQuery
from lookalike.contracts.sealed_index import SealedIndex
from lookalike.contracts.settings import GateSettings, Settings
from lookalike.contracts.tables import EMBEDDINGS
from lookalike.evaluation.candidate import Questions
from lookalike.evaluation.label import Labels, draw_items, draw_questions
from lookalike.evaluation.latency import CONCURRENT_CALLERS, Latency, measure_latency
from lookalike.evaluation.pinned import Pinned, questions_about, reference_of
from lookalike.quality.measured import SpaceFigures
from lookalike.releases.release import Release
from lookalike.search.engine import SearchEngine
from lookalike.serving.release import open_kept_encoder, search_engine
from lookalike.storage.delta import DeltaTables

ROUNDS = 3
REENCODED = 64
"""Items whose pictures are encoded again; each is a whole decode and forward pass."""


@dataclass(frozen=True)
class Side:
    """One release opened for measuring: no verdict is asked for, that is what is being made."""

    release: Release
    index: SealedIndex
    encoder: Encoder
    probe: Probe
    engine: SearchEngine

    @classmethod
    def open(cls, release: Release, settings: Settings) -> "Side":
        """Open index and encoder, both read-only."""
        from index_builder.reader import open_index

        index = open_index(release.index_dir, verify=False)  # the gate has just read every file
        encoder, probe = open_kept_encoder(release.encoder_dir, settings)
        return cls(release, index, encoder, probe, search_engine(index, encoder, release.version, settings))


def shared_questions(
    ours: Side, theirs: Side | None, pinned: Pinned, tables: DeltaTables, bars: GateSettings
) -> tuple[Questions, Questions | None]:
    """Labelled questions, the same items for both sides; live of another space is asked with that space's vectors."""
    labels, reference = pinned.labels, pinned.reference
    encode = ours.encoder.encode_texts
    asked = draw_questions(labels, bars.sample_queries, bars.seed, among=reference.item_ids)
    if theirs is None:
        return questions_about(asked, reference, labels, encode), None
    space = theirs.index.manifest.space
    if space == ours.index.manifest.space:
        mine = questions_about(asked, reference, labels, encode)
        return mine, mine
    rows = tables.read(EMBEDDINGS, where=f"space = '{space.fingerprint}'", order_by="item_id")
    other = reference_of(pinned.silver, rows, space.dim)
    both = [item for item, row in zip(asked, other.rows_in(asked), strict=True) if row >= 0]
    return (
        questions_about(both, reference, labels, encode),
        questions_about(both, other, labels, theirs.encoder.encode_texts),
    )


def measure_space(side: Side, pinned: Pinned, settings: Settings) -> SpaceFigures:
    """Fingerprints as found, the probe, and stored vectors against pictures encoded again."""
    reference, silver = pinned.reference, pinned.silver
    items = draw_items(reference.item_ids, REENCODED, settings.gate.seed)
    paths = dict(zip(silver["item_id"].to_pylist(), silver["image_path"].to_pylist(), strict=True))
    found, pictures = [], []
    for item in items:
        data = read_picture(paths[item], settings.pictures_root, settings.intake)
        if not isinstance(data, Refusal):
            found.append(item)
            pictures.append(decode_picture(data))
    again = side.encoder.encode_pictures(pictures)
    stored = reference.vectors[reference.rows_in(found)]
    cosines = np.einsum("nd,nd->n", again, stored) if found else np.array([np.nan])
    return SpaceFigures(
        encoder=side.encoder.space.fingerprint,
        vectors=pc.unique(pinned.embeddings["space"]).to_pylist(),
        probe_cosine=side.probe.lowest_cosine(side.encoder),
        reencoded_cosine=float(cosines.min()),
        reencoded=len(found),
    )


def measure_speed(side: Side, items: Sequence[str], labels: Labels) -> list[Latency]:
    """Whole searches by title and by item in turn: one caller at a time, then ten."""
    call, count = _searcher(side.engine, items, labels), len(items)
    # Other work on the machine only ever adds time: the best of a few rounds is nearest to the candidate's own.
    alone = min((measure_latency(call, count) for _ in range(ROUNDS)), key=lambda figures: figures.p99_ms)
    return [alone, measure_latency(call, count, callers=CONCURRENT_CALLERS)]


def _searcher(engine: SearchEngine, items: Sequence[str], labels: Labels) -> Callable[[int], object]:
    def call(i: int) -> object:
        item = items[i]
        part = QueryPart(text=labels.titles[item][:200]) if i % 2 else QueryPart(item_id=item)
        return engine.search(SearchQuery(parts=(part,)))

    return call
