"""What the gate measures, each from an independent source: the tables, pictures encoded again, timed queries."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lookalike.catalogue.intake import decode_picture, read_picture
from lookalike.contracts.encoder import Encoder
from lookalike.contracts.probe import Probe
from lookalike.contracts.product import Refusal
from lookalike.contracts.query import QueryPart, SearchQuery
from lookalike.contracts.sealed_index import SealedIndex
from lookalike.contracts.settings import GateSettings, Settings
from lookalike.contracts.tables import EMBEDDINGS
from lookalike.evaluation.candidate import Filters, Questions
from lookalike.evaluation.filter_cases import FILTER_COLUMNS, attribute_cases, choose_filters, random_cases
from lookalike.evaluation.label import draw_items
from lookalike.evaluation.latency import CONCURRENT_CALLERS, Latency, measure_latency
from lookalike.evaluation.pinned import Pinned, PinnedTables, questions_about, shown_of, vectors_of
from lookalike.quality.measured import SpaceFigures
from lookalike.releases.release import Release
from lookalike.search.engine import SearchEngine
from lookalike.search.filters import FilterRows
from lookalike.serving.release import open_kept_encoder, search_engine

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


def label_questions(
    ours: Side, theirs: Side | None, pinned: Pinned, titles: Mapping[str, str]
) -> tuple[Questions, Questions | None]:
    """Labelled questions, the same items for both sides; live of another space is asked with that space's vectors."""
    asked, encode = pinned.labelled, ours.encoder.encode_texts
    if theirs is None:
        return questions_about(asked.item_ids, asked.vectors, titles, encode), None
    space = theirs.index.manifest.space
    if space == ours.index.manifest.space:
        mine = questions_about(asked.item_ids, asked.vectors, titles, encode)
        return mine, mine
    newest = PinnedTables(pinned.tables.tables, {**pinned.tables.versions, EMBEDDINGS.name: None})
    other = vectors_of(newest, space, pinned.labels, asked.item_ids)
    return (
        questions_about(other.item_ids, asked.of(other.item_ids), titles, encode),
        questions_about(other.item_ids, other.vectors, titles, theirs.encoder.encode_texts),
    )


def filters_to_ask(index: SealedIndex, pinned: Pinned, bars: GateSettings) -> Filters:
    """Filters of each share, told from the tables; the rows of the index that pass them, as the server finds them."""
    items, current, silver = pinned.labels.items, pinned.reference.current, pinned.tables.silver
    chosen = choose_filters(silver(FILTER_COLUMNS), len(items), bars.filter_shares, bars.seed)
    attributes = attribute_cases(chosen, silver(FILTER_COLUMNS), items, current)
    rows = FilterRows(index.columns, index.sets)
    random = random_cases(items, current, bars.filter_shares, bars.seed)
    return Filters([*random, *attributes], lambda asked: rows.rows([asked]))


def measure_space(side: Side, pinned: Pinned, settings: Settings) -> SpaceFigures:
    """Fingerprints as found, the probe, and stored vectors against pictures encoded again."""
    drawn = pinned.drawn
    items = draw_items(drawn.item_ids, REENCODED, settings.gate.seed)
    paths = shown_of(pinned.tables, items, "image_path")
    found, pictures = [], []
    for item in items:
        data = read_picture(paths[item], settings.pictures_root, settings.intake)
        if not isinstance(data, Refusal):
            found.append(item)
            pictures.append(decode_picture(data))
    again = side.encoder.encode_pictures(pictures)
    stored = drawn.of(found)
    cosines = np.einsum("nd,nd->n", again, stored) if found else np.array([np.nan])
    return SpaceFigures(
        encoder=side.encoder.space.fingerprint,
        vectors=sorted(pinned.spaces),
        probe_cosine=side.probe.lowest_cosine(side.encoder),
        reencoded_cosine=float(cosines.min()),
        reencoded=len(found),
    )


def measure_speed(side: Side, items: Sequence[str], titles: Mapping[str, str]) -> list[Latency]:
    """Whole searches by title and by item in turn: one caller at a time, then ten."""
    call, count = _searcher(side.engine, items, titles), len(items)
    # Other work on the machine only ever adds time: the best of a few rounds is nearest to the candidate's own.
    alone = min((measure_latency(call, count) for _ in range(ROUNDS)), key=lambda figures: figures.p99_ms)
    return [alone, measure_latency(call, count, callers=CONCURRENT_CALLERS)]


def _searcher(engine: SearchEngine, items: Sequence[str], titles: Mapping[str, str]) -> Callable[[int], object]:
    def call(i: int) -> object:
        item = items[i]
        part = QueryPart(text=titles[item][:200]) if i % 2 else QueryPart(item_id=item)
        return engine.search(SearchQuery(parts=(part,)))

    return call
