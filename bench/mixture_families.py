"""Families among the vectors of one component: the trees that average linkage makes of them, down to vague likeness."""

from collections.abc import Iterator

import numpy as np
from mixture import FAMILY, NODE
from numpy.typing import NDArray

from lookalike.contracts.encoder import Vectors

LEAST_ALIKE = 0.2
"""Families whose vectors share less of their deviation than this, on average, are not one family."""
LEAST_STEP = 0.02
"""Nodes that share hardly more than their parent are one with it."""
LEAST = 1e-9
Node = tuple[int, int, float, float]
Inner = dict[int, tuple[int, int, float]]


def families_of(own: Vectors) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """Families and their nodes, of dtypes FAMILY and NODE, among deviations from the middle, shape (n, dim)."""
    lengths = np.maximum(np.linalg.norm(own, axis=1), LEAST)
    unit = own / lengths[:, None]
    families: list[tuple[int, int, int, int]] = []
    nodes: list[Node] = []
    for root, inner in _roots(unit @ unit.T):
        tree, leaves = _tree(root, inner, lengths)
        families.append((0, len(nodes), len(tree), leaves))
        nodes += tree
    return np.array(families, FAMILY), np.array(nodes, NODE)


def _roots(alike: Vectors) -> Iterator[tuple[int, Inner]]:
    """The root of each family, with all inner nodes: number to its two parts and how alike they are on average.

    Numbers below n are vectors. `alike`, shape (n, n), is used up.
    """
    count, inner = len(alike), Inner()
    np.fill_diagonal(alike, -np.inf)
    size, name = np.ones(count), np.arange(count)
    best, partner = alike.max(axis=1), alike.argmax(axis=1)
    while best[one := int(best.argmax())] >= LEAST_ALIKE:
        other = int(partner[one])
        inner[count + len(inner)] = (int(name[one]), int(name[other]), min(float(best[one]), 1.0))
        row = (size[one] * alike[one] + size[other] * alike[other]) / (size[one] + size[other])
        row[[one, other]] = -np.inf
        alike[one] = alike[:, one] = row
        alike[other] = alike[:, other] = best[other] = -np.inf
        size[one] += size[other]
        name[one], name[other] = count + len(inner) - 1, -1
        stale = np.flatnonzero(((partner == one) | (partner == other)) & (name >= 0))
        best[stale], partner[stale] = alike[stale].max(axis=1), alike[stale].argmax(axis=1)
        best[one], partner[one] = row.max(), row.argmax()
        closer = row > best
        best[closer], partner[closer] = row[closer], one
    for root in name[name >= 0]:
        yield int(root), inner


def _tree(root: int, inner: Inner, lengths: Vectors) -> tuple[list[Node], int]:
    """Nodes, each after its parent, and how many are leaves. Variance grows with likeness, to 1 in a leaf."""
    nodes: list[Node] = []
    leaves, waiting = 0, [(root, 0, -1, 0.0)]
    while waiting:
        name, parent, depth, before = waiting.pop()
        leaf = name < len(lengths)
        one, other, likeness = (0, 0, 1.0) if leaf else inner[name]
        if not leaf and depth >= 0 and likeness - before < LEAST_STEP:
            waiting += [(one, parent, depth, before), (other, parent, depth, before)]
            continue
        length = float(lengths[name]) if leaf else 0.0
        nodes.append((parent, depth + 1, max(likeness - before, 0.0) ** 0.5, length))
        leaves += leaf
        if not leaf:
            here = len(nodes) - 1
            waiting += [(one, here, depth + 1, likeness), (other, here, depth + 1, likeness)]
    return nodes, leaves
