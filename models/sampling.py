"""Draws one training step: concepts, two brands' pictures of each, one true text of each, and what is no negative.

Part of the concepts comes as whole subgroups, because the nearest wrong answers of a search are neighbours there.
Each step has its own generator from (seed, step), so a resumed run draws what an unbroken one would have drawn.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from models.dataset import Concepts

_PER_SUBGROUP = 12
_TITLE_SHARE = 0.6


@dataclass(frozen=True)
class Draw:
    """One step's material: concept positions (n,), picture positions (2 n,) with both views of a concept n apart,
    one text per concept, and `not_negative`, bool (n, n): text j is true of concept i as well."""

    concepts: NDArray[np.int64]
    pictures: NDArray[np.int64]
    texts: list[str]
    not_negative: Tensor


def step_generator(seed: int, step: int) -> Generator:
    """Random numbers of one step, the same however often the run was interrupted."""
    return np.random.default_rng([seed, step])


def draw(data: Concepts, count: int, neighbours: float, rng: Generator) -> Draw:
    """Draw `count` concepts (fewer when there are fewer) with their pictures and texts."""
    concepts = _draw_concepts(data, min(count, len(data.names)), neighbours, rng)
    pairs = np.array([_two(data.members[concept], rng) for concept in concepts])
    texts = [_text(data, int(concept), rng) for concept in concepts]
    lowered = [text.lower() for text in texts]
    shared = torch.tensor([[text in data.truths[concept] for text in lowered] for concept in concepts])
    return Draw(concepts, np.concatenate([pairs[:, 0], pairs[:, 1]]), texts, shared)


def _draw_concepts(data: Concepts, count: int, neighbours: float, rng: Generator) -> NDArray[np.int64]:
    chosen: dict[int, None] = {}
    for subgroup in rng.permutation(len(data.subgroups)):
        if len(chosen) >= neighbours * count:
            break
        members = data.subgroups[subgroup]
        chosen.update(dict.fromkeys(rng.permutation(members)[:_PER_SUBGROUP].tolist()))
    for concept in rng.permutation(len(data.names)):
        if len(chosen) >= count:
            break
        chosen[int(concept)] = None
    return np.array(list(chosen)[:count])


def _two(members: NDArray[np.int64], rng: Generator) -> NDArray[np.int64]:
    """Two different pictures where there are two, else the same twice (augmented differently)."""
    return rng.choice(members, size=2, replace=len(members) < 2)


def _text(data: Concepts, concept: int, rng: Generator) -> str:
    titles, words = data.titles[concept], data.words[concept]
    if not words or rng.random() < _TITLE_SHARE:
        return str(titles[rng.integers(len(titles))])
    amount = min(len(words), int(rng.integers(1, 4)))
    return " ".join(str(words[index]) for index in rng.choice(len(words), size=amount, replace=False))
