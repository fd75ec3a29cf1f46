"""The three questions asked of an encoder: picture to pictures, name to pictures, tag to pictures."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.contracts.encoder import Vectors
from lookalike.evaluation.bootstrap import Interval, mean_interval
from lookalike.evaluation.metrics import Mask
from lookalike.evaluation.ranking import Ranked, Relation, rank
from lookalike.evaluation.relevance import UNKNOWN, label_codes, same

Labels = Sequence[str | None]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Retrieval:
    """Result of one question. `chance_at_10` is what a random ranking would reach in R@10.

    `not_counted` queries had nothing relevant in the gallery and are in no mean.
    """

    measures: dict[str, Interval]
    chance_at_10: float
    gallery: int
    not_counted: int


def image_to_image(
    vectors: Vectors,
    group_ids: Labels,
    brands: Labels,
    query_rows: Rows,
    gallery_rows: Rows,
    *,
    seed: int,
    categories: Labels | None = None,
) -> Retrieval:
    """Pictures of the same product in another brand, by picture.

    Rows index `vectors`, shape (n, dim), and the labels. Relevant: same group, another brand. The query itself and
    pictures of its group and brand are left out of the ranking. With `categories`, nDCG@10 is measured too: same last
    category is grade 1.
    """
    (groups,), (makers,) = label_codes(group_ids), label_codes(brands)
    (kinds,) = label_codes(categories if categories is not None else [None] * len(group_ids))

    def relate(positions: Rows) -> Relation:
        rows = query_rows[positions]
        same_group = same(groups[rows], groups[gallery_rows])
        same_brand = makers[rows][:, None] == makers[gallery_rows][None, :]
        itself = rows[:, None] == gallery_rows[None, :]
        related = same(kinds[rows], kinds[gallery_rows]) if categories is not None else None
        return Relation(same_group & ~same_brand, (same_group & same_brand) | itself, related)

    ranked = rank(vectors[query_rows], vectors[gallery_rows], relate)
    return _retrieval(ranked, groups[query_rows], len(gallery_rows), seed)


def text_to_image(
    text_vectors: Vectors, text_groups: Labels, gallery_vectors: Vectors, gallery_groups: Labels, *, seed: int
) -> Retrieval:
    """Pictures of a product by its name: relevant is every picture of the text's group, in any brand."""
    wanted, given = label_codes(text_groups, gallery_groups)

    def relate(positions: Rows) -> Relation:
        relevant = same(wanted[positions], given)
        return Relation(relevant, np.zeros_like(relevant))

    return _retrieval(rank(text_vectors, gallery_vectors, relate), wanted, len(given), seed)


def text_to_image_by_tag(
    text_vectors: Vectors,
    tags: Sequence[str],
    gallery_vectors: Vectors,
    gallery_tags: Sequence[Sequence[str]],
    asked: Mask,
    *,
    seed: int,
) -> Retrieval:
    """Pictures by one of their tags: relevant is every picture with that tag among the `asked`, shape (gallery,).

    Pictures with the tag that are not asked (known concepts, when held-out ones are measured) are left out of the
    ranking: finding them is neither right nor wrong.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for column, own in enumerate(gallery_tags):
        for tag in set(own):
            places[tag].append(column)

    def relate(positions: Rows) -> Relation:
        tagged = np.zeros((len(positions), len(gallery_tags)), dtype=bool)
        for line, position in enumerate(positions):
            tagged[line, places[tags[position]]] = True
        return Relation(tagged & asked, tagged & ~asked)

    ranked = rank(text_vectors, gallery_vectors, relate)
    return _retrieval(ranked, np.arange(len(tags)), len(gallery_tags), seed)


def _retrieval(ranked: Ranked, clusters: Rows, gallery: int, seed: int) -> Retrieval:
    counted = ranked.counted & (clusters != UNKNOWN)
    first, owners = ranked.first_rank[counted], clusters[counted]
    per_query = {"R@1": first <= 1, "R@10": first <= 10, "MRR": 1.0 / np.maximum(first, 1)}
    if ranked.ndcg is not None:
        per_query["nDCG@10"] = ranked.ndcg[counted]
    share = ranked.relevant_total[counted] / np.maximum(ranked.considered[counted], 1)
    chance = float(np.mean(1.0 - (1.0 - share) ** 10)) if counted.any() else float("nan")
    measures = {name: mean_interval(values, owners, seed=seed) for name, values in per_query.items()}
    return Retrieval(measures, chance, gallery, int((~counted).sum()))
