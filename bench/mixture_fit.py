"""Fit a mixture on real pictures and the texts that belong to them.

python bench/mixture_fit.py --pictures items.npy --texts item_texts.npy --out bench/mixture.npz
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from mixture import HELD_OUT, NODE, Mixture
from mixture_families import families_of
from numpy.typing import NDArray

from index_builder.clustering import BLOCK_ROWS, find_centres, nearest_centres
from lookalike.contracts.encoder import Vectors
from lookalike.contracts.errors import LookalikeError

PER_COMPONENT = 1_600
TRAINED_ON = 256
"""Vectors per component that the centres are found with."""
RANK = 32
SHRINK = 64.0
"""So many vectors of a component weigh as much as the spread over all components."""
MOST_FAMILIES = 65_536
"""Kept of those that are found, drawn from all."""
TEXTS, TEXTS_AMONG, CALIBRATED_ON = 4_096, 200_000, 1_024
LEANINGS = (0.5, 0.65, 0.8, 0.95, 1.1, 1.3, 1.6)
"""Tried: so many times the likeness that real texts have to the picture nearest them."""
PER_LIST, PROBED_SHARE, TRUE = 200, 32, 10
"""Vectors in a list, of which one in PROBED_SHARE is probed, when it is asked how hard texts are to answer."""
DIMENSION_AT, LEAST_DISTANCE = 100, 1e-3
QUESTIONS_AT_ONCE = 128
LEAST = 1e-9
SEED = 5


@dataclass(frozen=True)
class _Component:
    """`own`: deviations from `middle`; `values`, descending, and `vectors`, columns, of their covariance."""

    middle: Vectors
    own: Vectors
    values: Vectors
    vectors: Vectors


def fit(
    pictures: Vectors, texts: Vectors, components: int | None = None, paired: NDArray[np.int64] | None = None
) -> Mixture:
    """Fit on unit vectors of pictures, shape (n, dim), and of texts that belong to them; both may be mapped from disk.

    `paired`: rows of the pictures that the texts belong to; all, in order, unless given. `components`: by the number
    of pictures unless given. Raises LookalikeError when there are too few.
    """
    n, dim = pictures.shape
    components = components or max(1, n // PER_COMPONENT)
    if not 1 <= components <= n // RANK or n < DIMENSION_AT or dim < RANK:
        raise LookalikeError(
            f"{n} vectors of {dim} dimensions cannot be fitted by {components} components: each needs at least {RANK} "
            f"vectors, and they at least {RANK} dimensions"
        )
    random = np.random.default_rng(SEED)
    mixture = _fit_pictures(pictures, _parts(pictures, components, random), random)
    chosen = np.sort(random.choice(n, min(n - n // 10, TEXTS_AMONG), replace=False))
    # As queries are, of pictures that are not among those that are looked at.
    others = np.flatnonzero(~np.isin(np.arange(n) if paired is None else paired, chosen))
    asked = np.sort(random.choice(others, min(len(others), TEXTS), replace=False))
    return _with_texts(mixture, np.asarray(pictures[chosen], np.float32), np.asarray(texts[asked], np.float32))


def _fit_pictures(pictures: Vectors, parts: list[NDArray[np.int64]], random: np.random.Generator) -> Mixture:
    """All but the texts, which lie anywhere."""
    n, dim = sum(map(len, parts)), pictures.shape[1]
    within = sum((_scatter(np.asarray(pictures[rows], np.float32)) for rows in parts), np.zeros((dim, dim))) / n
    axes, left = np.zeros((len(parts), RANK + 1, dim), np.float32), np.zeros(len(parts), np.float32)
    remainder, families, nodes = np.zeros((dim, dim)), [], [np.empty(0, NODE)]
    for at, rows in enumerate(parts):
        here = _component(np.asarray(pictures[rows], np.float32), within)
        axes[at, :RANK] = (here.vectors[:, :RANK] * np.sqrt(here.values[:RANK])).T
        axes[at, RANK] = here.middle
        left[at] = np.sqrt(here.values[RANK:].sum())
        rest = here.vectors[:, RANK:] * np.sqrt(here.values[RANK:])
        remainder += len(rows) / n * (rest @ rest.T) / max(left[at] ** 2, LEAST)
        found, inside = families_of(here.own)
        found["component"] = at
        found["first"] += sum(map(len, nodes))
        families.append(found)
        nodes.append(inside)
    anywhere = np.zeros(1, np.float32), np.zeros(dim, np.float32), np.eye(dim, dtype=np.float32)
    some = _some(np.concatenate(families), np.concatenate(nodes), random)
    return Mixture(axes, left, _root(remainder), *some, *anywhere)


def _some(
    families: NDArray[np.void], nodes: NDArray[np.void], random: np.random.Generator
) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """At most MOST_FAMILIES of the families, in their order, with their nodes alone."""
    chosen = families[np.sort(random.choice(len(families), min(len(families), MOST_FAMILIES), replace=False))]
    sizes = chosen["nodes"].astype(np.int64)
    first = np.cumsum(sizes) - sizes
    kept = nodes[np.repeat(chosen["first"] - first, sizes) + np.arange(sizes.sum())]
    chosen["first"] = first
    return chosen, kept


def _parts(pictures: Vectors, components: int, random: np.random.Generator) -> list[NDArray[np.int64]]:
    """Rows of each component that has at least two."""
    n = len(pictures)
    sample = np.sort(random.choice(n, min(n, components * TRAINED_ON), replace=False))
    centres = find_centres(np.asarray(pictures[sample], np.float32), components)
    blocks = (np.asarray(pictures[start : start + BLOCK_ROWS], np.float32) for start in range(0, n, BLOCK_ROWS))
    member = np.concatenate([nearest_centres(centres, block) for block in blocks])
    order = np.argsort(member, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(member, minlength=components))[:-1])
    return [rows for rows in parts if len(rows) > 1]


def _scatter(points: Vectors) -> NDArray[np.float64]:
    """Sum of squares and products about the middle, shape (dim, dim)."""
    own = points - points.mean(axis=0)
    scatter: NDArray[np.float64] = (own.T @ own).astype(np.float64)
    return scatter


def _component(points: Vectors, within: NDArray[np.float64]) -> _Component:
    middle = points.mean(axis=0)
    own = points - middle
    scatter = (own.T @ own).astype(np.float64) / len(own)
    share = len(own) / (len(own) + SHRINK)
    covariance = share * scatter + (1 - share) * np.trace(scatter) / max(np.trace(within), LEAST) * within
    values, vectors = np.linalg.eigh(covariance)
    return _Component(middle, own, np.maximum(values[::-1], 0), vectors[:, ::-1])


def _root(covariance: NDArray[np.float64]) -> Vectors:
    """What turns rows of independent values into rows of this covariance."""
    values, vectors = np.linalg.eigh(covariance)
    root: Vectors = (vectors * np.sqrt(np.maximum(values, 0))).T.astype(np.float32)
    return root


def _with_texts(mixture: Mixture, pictures: Vectors, texts: Vectors) -> Mixture:
    """How much texts lean on the pictures nearest them, and what the rest of them is like.

    Also a text that has nothing to do with any picture has a nearest one, and a picture has others beside it. So the
    leaning is scaled until lists of generated pictures hold as much of what is nearest to generated texts as lists of
    real ones hold for real texts: what makes them hard to answer.
    """
    scores, rows = nearest(pictures, texts, DIMENSION_AT)
    likeness = scores[:, 0]
    rest = texts - likeness[:, None] * pictures[rows[:, 0]]
    rest /= np.linalg.norm(rest, axis=1, keepdims=True)
    offset, axes = rest.mean(axis=0), _root(np.cov(rest.T))
    blocks = CALIBRATED_ON // HELD_OUT
    each = -(-len(pictures) // blocks)
    among = np.concatenate([mixture.block(SEED, number, each) for number in range(blocks)])
    asked = np.concatenate([mixture.held_out(SEED, number, each) for number in range(blocks)])
    tried = [
        replace(mixture, text_likeness=np.minimum(likeness * factor, 1), text_offset=offset, text_axes=axes)
        for factor in LEANINGS
    ]
    (wanted,) = shares_in_lists(pictures, [texts])
    made = shares_in_lists(among, [each.texts(SEED, 0, asked) for each in tried])
    factor = float(np.interp(wanted, np.maximum.accumulate(made), LEANINGS))
    print(f"nearest to texts in the lists probed: {wanted:.3f}; made ones {np.round(made, 3)}: x {factor:.2f}")
    return replace(tried[0], text_likeness=np.minimum(likeness * factor, 1).astype(np.float32))


def shares_in_lists(vectors: Vectors, kinds: Sequence[Vectors]) -> list[float]:
    """Of the TRUE vectors nearest to each question the share in the lists nearest to it, for each of `kinds`."""
    lists = max(len(vectors) // PER_LIST, min(2 * PROBED_SHARE, len(vectors) // RANK))
    sample = vectors[:: max(1, len(vectors) // (lists * TRAINED_ON // 4))]
    centres = find_centres(np.ascontiguousarray(sample), lists)
    list_of, probed, found = nearest_centres(centres, vectors), max(lists // PROBED_SHARE, 1), []
    for questions in kinds:
        near = np.argpartition(-(questions @ centres.T), probed - 1, axis=1)[:, :probed]
        own = list_of[nearest(vectors, questions, TRUE)[1]]
        found.append(float((own[:, :, None] == near[:, None]).any(axis=2).mean()))
    return found


def nearest(vectors: Vectors, questions: Vectors, count: int) -> tuple[Vectors, NDArray[np.int64]]:
    """Similarities and rows of the `count` most similar vectors of each question, best first."""
    scores = np.empty((len(questions), count), np.float32)
    rows = np.empty((len(questions), count), np.int64)
    for start in range(0, len(questions), QUESTIONS_AT_ONCE):
        here = slice(start, start + QUESTIONS_AT_ONCE)
        found = questions[here] @ vectors.T
        best = np.argpartition(found, -count, axis=1)[:, -count:]
        values = np.take_along_axis(found, best, axis=1)
        order = np.argsort(-values, axis=1)
        scores[here], rows[here] = np.take_along_axis(values, order, axis=1), np.take_along_axis(best, order, axis=1)
    return scores, rows


def local_dimension(scores: Vectors) -> float:
    """Maximum likelihood over the nearest DIMENSION_AT (Levina & Bickel 2004), inverses averaged over the questions."""
    distances = np.sqrt(np.maximum(2 - 2 * scores[:, :DIMENSION_AT], LEAST_DISTANCE**2))
    return float(1 / np.log(distances[:, -1:] / distances[:, :-1]).mean())


def main() -> None:
    """Fit and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True, help=".npy of unit vectors, float16 or float32")
    parser.add_argument("--texts", type=Path, required=True, help=".npy of the texts that belong to them, row by row")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--components", type=int, help="by the number of pictures unless given")
    given = parser.parse_args()
    pictures, texts = (np.load(path, mmap_mode="r") for path in (given.pictures, given.texts))
    fit(pictures, texts, given.components).save(given.out)


if __name__ == "__main__":
    main()
