"""The protocol behind every figure of an encoder: which concepts, which brands, which gallery, which questions.

Held-out concepts were never trained on in any brand; test brands were never trained on at all. Picture queries look
for their product among the trained brands; words look among the pictures of the slice's own brands, so that a
test-brand figure says how well words find pictures drawn in a style never seen.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lookalike.contracts.encoder import Vectors
from lookalike.contracts.errors import LookalikeError
from lookalike.evaluation.metrics import Mask
from lookalike.evaluation.relevance import last_category
from lookalike.evaluation.report import EncoderReport, ReportRow, rows_of
from lookalike.evaluation.retrieval import image_to_image, text_to_image, text_to_image_by_tag

PICTURE, NAME, TAG = "image→image", "text→image by name", "text→image by tag"
HELD_OUT, KNOWN = "held out", "known"
TRAINED, TEST = "trained brands", "test brands"
SLICES = ((HELD_OUT, TRAINED), (KNOWN, TEST), (HELD_OUT, TEST), (KNOWN, TRAINED))
"""The first three are what is reported; the last was trained on and shows how much was memorised."""

MAX_CONCEPTS_PER_TAG = 10
"""A tag of more concepts is too easy a question: a random ranking would often hit it."""

ITEM_COLUMNS = ("group_id", "brand", "title", "tags", "category_path")
MEASURES = ("R@1", "R@10", "MRR", "nDCG@10")


@dataclass(frozen=True)
class EvaluationItems:
    """Pictures to evaluate on, one entry per item in every field; `vectors` has shape (n, dim), rows of length 1."""

    vectors: Vectors
    group_ids: Sequence[str | None]
    brands: Sequence[str | None]
    titles: Sequence[str]
    tags: Sequence[Sequence[str]]
    categories: Sequence[str | None]

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in self.__dataclass_fields__}
        if len(set(lengths.values())) != 1:
            raise LookalikeError(f"evaluation items need one entry per item in every field; got {lengths}")

    @classmethod
    def from_rows(cls, rows: pa.Table, vectors: Vectors) -> "EvaluationItems":
        """From rows of silver or of a snapshot (ITEM_COLUMNS) and their vectors in the same order."""
        groups, brands, titles, tags, paths = (rows.column(name).to_pylist() for name in ITEM_COLUMNS)
        return cls(
            vectors, groups, brands, titles, [own or () for own in tags], [last_category(path) for path in paths]
        )


def evaluate_encoder(
    items: EvaluationItems,
    encode_texts: Callable[[Sequence[str]], Vectors],
    *,
    held_out: Collection[str],
    trained_brands: Collection[str],
    test_brands: Collection[str],
    seed: int,
) -> EncoderReport:
    """Every figure of one encoder on real pictures, with 95 % intervals clustered by concept.

    `encode_texts` is the encoder's own; names are asked as the items' titles, one question per distinct title of a
    concept. Raises LookalikeError when a vector is not finite or no item has a brand of `trained_brands`.
    """
    concepts, brands = _masks(items, held_out, trained_brands, test_brands)
    if not brands[TRAINED].any():
        raise LookalikeError(f"none of the {len(items.brands)} items has a trained brand ({sorted(trained_brands)})")
    evaluation = _Evaluation(items, encode_texts, concepts, brands, seed)
    rows: list[ReportRow] = []
    for piece in SLICES:
        if evaluation.chosen(piece).any():
            rows += evaluation.by_picture(piece) + evaluation.by_name(piece) + evaluation.by_tag(piece)
    return EncoderReport(tuple(rows), _notes(rows))


@dataclass(frozen=True)
class _Evaluation:
    """One encoder's items with the masks of concepts and brands, shape (n,) each."""

    items: EvaluationItems
    encode_texts: Callable[[Sequence[str]], Vectors]
    concepts: dict[str, Mask]
    brands: dict[str, Mask]
    seed: int

    def chosen(self, piece: tuple[str, str]) -> Mask:
        """Items of a slice (concepts, brands)."""
        return self.concepts[piece[0]] & self.brands[piece[1]]

    def by_picture(self, piece: tuple[str, str]) -> list[ReportRow]:
        items, gallery = self.items, np.flatnonzero(self.brands[TRAINED])
        result = image_to_image(
            items.vectors,
            items.group_ids,
            items.brands,
            np.flatnonzero(self.chosen(piece)),
            gallery,
            seed=self.seed,
            categories=items.categories,
        )
        return rows_of(PICTURE, piece, result, MEASURES)

    def by_name(self, piece: tuple[str, str]) -> list[ReportRow]:
        items, gallery = self.items, self._gallery(piece)
        asked = sorted({(str(items.group_ids[row]), items.titles[row]) for row in _rows(self.chosen(piece))})
        result = text_to_image(
            self.encode_texts([title for _, title in asked]),
            [group for group, _ in asked],
            items.vectors[gallery],
            [items.group_ids[row] for row in gallery],
            seed=self.seed,
        )
        return rows_of(NAME, piece, result, MEASURES)

    def by_tag(self, piece: tuple[str, str]) -> list[ReportRow]:
        items, gallery, chosen = self.items, self._gallery(piece), self.chosen(piece)
        tags = self._tags_to_ask(gallery, chosen)
        if not tags:
            return []
        vectors, own = items.vectors[gallery], [items.tags[row] for row in gallery]
        result = text_to_image_by_tag(self.encode_texts(tags), tags, vectors, own, chosen[gallery], seed=self.seed)
        return rows_of(TAG, piece, result, MEASURES)

    def _gallery(self, piece: tuple[str, str]) -> list[int]:
        return _rows(self.brands[piece[1]])

    def _tags_to_ask(self, gallery: list[int], chosen: Mask) -> list[str]:
        """Distinct tags of the chosen items that few concepts of the gallery share and that are no item's title."""
        items = self.items
        concepts: dict[str, set[str | None]] = {}
        for row in gallery:
            for tag in items.tags[row]:
                concepts.setdefault(tag, set()).add(items.group_ids[row])
        titles = {items.titles[row].lower() for row in gallery}
        own = {tag for row in _rows(chosen) for tag in items.tags[row]}
        return sorted(tag for tag in own if len(concepts[tag]) <= MAX_CONCEPTS_PER_TAG and tag.lower() not in titles)


def _masks(
    items: EvaluationItems, held_out: Collection[str], trained: Collection[str], test: Collection[str]
) -> tuple[dict[str, Mask], dict[str, Mask]]:
    """Masks by concepts and by brands. A concept counts when a trained brand has it: others have no counterpart."""
    in_trained = np.array([brand in trained for brand in items.brands], dtype=bool)
    in_test = np.array([brand in test and brand not in trained for brand in items.brands], dtype=bool)
    catalogue = {group for group, inside in zip(items.group_ids, in_trained, strict=True) if inside and group}
    unseen = np.array([group in catalogue and group in held_out for group in items.group_ids], dtype=bool)
    seen = np.array([group in catalogue and group not in held_out for group in items.group_ids], dtype=bool)
    return {HELD_OUT: unseen, KNOWN: seen}, {TRAINED: in_trained, TEST: in_test}


def _rows(mask: Mask) -> list[int]:
    return [int(row) for row in np.flatnonzero(mask)]


def _notes(rows: Sequence[ReportRow]) -> tuple[str, ...]:
    lost = {(row.question, row.concepts, row.brands): row.not_counted for row in rows if row.not_counted}
    said = [f"{count} queries without a counterpart not counted: {', '.join(where)}." for where, count in lost.items()]
    return (
        "Intervals: 95 %, percentile bootstrap over concepts. Chance: R@10 of a random ranking.",
        "image→image: queries of the named brands, gallery of all trained-brand pictures, the same concept in another "
        "brand is relevant. text→image: gallery of all pictures of the named brands.",
        f"By tag: tags of at most {MAX_CONCEPTS_PER_TAG} concepts that are no title; same-tag pictures of other "
        "concepts than the named are left out of the ranking.",
        *said,
    )
