"""As many vectors as wanted that lie as real ones do: a mixture of Gaussians whose vectors come in families.

A hundred million real pictures cannot be had here, and clustered random points are far easier (or far harder) to search
than embeddings. What makes search easy or hard is how neighbours lie at every scale, from copies to categories, so:

- Components are k-means cells, each a Gaussian: the directions in which its vectors spread most, and the rest as noise
  with the covariance of all rests. Values keep the encoder's own axes, since codes may depend on them.
- Within a component vectors come in families, trees as average linkage found them among the real ones: two vectors
  share the part of their deviation that their last common node has. A tree keeps shape and tightness of a real family;
  its vectors are drawn anew. A vector's own distribution does not depend on its family.
- A text leans on a picture, by what real texts have in common with the picture nearest them, so scaled that it is as
  hard to answer, and is otherwise like the rests of real ones.

Growth: components and the kinds of families stay, the number of families grows, and new ones fill their component;
so neighbours of other families come nearer with the number of vectors at the rate of its spectrum. The noise has a
period: of the n vectors of one component each shares its row with n / len(noise) others, the directions with none.

Vectors come in blocks, each from its own seed: any block can be made again, by any process, in any order. A family lies
within one block, at any places of it.

A mixture is kept in few bytes, so that it can lie beside the code: directions as signed bytes, the rest as half floats.
"""

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.contracts.encoder import Vectors
from lookalike.storage.atomic import write_bytes

BLOCK_ROWS = 65_536
HELD_OUT = 64
"""Vectors of each block that are no part of it: questions, whose families are there."""
FAMILY = np.dtype([("component", np.int32), ("first", np.int32), ("nodes", np.int32), ("leaves", np.int32)])
AT_ONCE = 256
"""Rows that a processor keeps near while it works on them."""
NODE = np.dtype([("parent", np.int32), ("depth", np.int32), ("step", np.float32), ("length", np.float32)])
NOISE_ROWS, NOISE_SEED = 32_768, 3
MOST_BYTE = 127
_TEXTS = 1


@dataclass(frozen=True)
class Mixture:
    """`axes`, shape (c, rank + 1, dim): directions times their deviations, and the middle; `left`, (c,): length of what
    they leave over; `rests`, (dim, dim): of independent values makes such a rest, of mean squared length 1; `families`,
    of dtype FAMILY in the order of components, each with its part of `nodes`, of dtype NODE: a node deviates from its
    parent by a Gaussian's `step`; a leaf, which alone has a `length`, lies so far from the component's middle in the
    direction so found. `text_likeness`: of texts to their pictures; `text_offset`, (dim,), and `text_axes`, (dim, dim):
    mean and spread of the rest of a text.
    """

    axes: Vectors
    left: Vectors
    rests: Vectors
    families: NDArray[np.void]
    nodes: NDArray[np.void]
    text_likeness: Vectors
    text_offset: Vectors
    text_axes: Vectors

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return len(self.rests)

    @cached_property
    def noise(self) -> Vectors:
        """Rests, shape (NOISE_ROWS, dim), one of which each node takes."""
        drawn = np.random.default_rng(NOISE_SEED).standard_normal((NOISE_ROWS, self.dim), dtype=np.float32)
        return drawn @ self.rests

    def block(self, seed: int, number: int, rows: int = BLOCK_ROWS) -> Vectors:
        """Block `number`: unit vectors, float32, shape (rows, dim). One of other `rows` is another block."""
        return self._drawn(seed, number, rows)[:rows]

    def held_out(self, seed: int, number: int, rows: int = BLOCK_ROWS) -> Vectors:
        """Unit vectors drawn together with that block and left out of it, shape (HELD_OUT, dim)."""
        return self._drawn(seed, number, rows)[rows:].copy()

    def texts(self, seed: int, number: int, pictures: Vectors) -> Vectors:
        """A text that leans on each picture, unit vectors of the same shape; other ones for another `number`."""
        random = np.random.Generator(np.random.SFC64([seed, number, _TEXTS]))
        rest = random.standard_normal(pictures.shape, dtype=np.float32) @ self.text_axes + self.text_offset
        rest -= np.einsum("ij,ij->i", rest, pictures)[:, None] * pictures
        rest /= np.linalg.norm(rest, axis=1, keepdims=True)
        likeness = random.choice(self.text_likeness, len(pictures))[:, None]
        unit: Vectors = likeness * pictures + np.sqrt(1 - likeness**2) * rest
        return unit

    def _drawn(self, seed: int, number: int, rows: int) -> Vectors:
        random = np.random.Generator(np.random.SFC64([seed, number]))
        component, first, node = self._nodes_of(random, rows + HELD_OUT)
        rank = self.axes.shape[1] - 1
        inner = random.standard_normal((len(node), rank), dtype=np.float32)
        noise = random.integers(len(self.noise), size=len(node))
        points = np.empty((len(node), self.dim), np.float32)
        borders = np.flatnonzero(np.diff(component)) + 1
        cuts = np.unique(np.concatenate([borders, np.arange(0, len(node), AT_ONCE), [len(node)]]))
        for here in map(slice, cuts[:-1], cuts[1:]):
            part, at = points[here], component[here.start]
            np.take(self.noise, noise[here], axis=0, out=part, mode="clip")
            part *= self.left[at]
            part += inner[here] @ self.axes[at, :rank]
            part *= node["step"][here, None]
        for depth in range(1, int(node["depth"].max(initial=0)) + 1):
            child = np.flatnonzero(node["depth"] == depth)
            points[child] += points[first[child] + node["parent"][child]]
        leaves = random.permutation(np.flatnonzero(node["length"]))[: rows + HELD_OUT]
        made = np.empty((len(leaves), self.dim), np.float32)
        for start in range(0, len(leaves), AT_ONCE):
            these, part = leaves[start : start + AT_ONCE], made[start : start + AT_ONCE]
            np.take(points, these, axis=0, out=part, mode="clip")
            part *= (node["length"][these] / _lengths(part))[:, None]
            part += self.axes[component[these], rank]
            part /= _lengths(part)[:, None]
        return made

    def _nodes_of(
        self, random: np.random.Generator, leaves: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.void]]:
        """Nodes with at least so many leaves, in the order of components: each one's component, where its family
        begins, and what it is."""
        drawn = random.integers(len(self.families), size=leaves)
        many = int(np.searchsorted(np.cumsum(self.families["leaves"][drawn]), leaves)) + 1
        families = self.families[np.sort(drawn[:many])]
        sizes = families["nodes"]
        first = np.repeat(np.cumsum(sizes) - sizes, sizes)
        node = self.nodes[np.repeat(families["first"], sizes) + np.arange(len(first)) - first]
        return np.repeat(families["component"], sizes), first, node

    def save(self, path: Path) -> None:
        """As an .npz file, rounded, whole or not at all."""
        held, scales = io.BytesIO(), np.abs(self.axes).max(axis=2, keepdims=True) / MOST_BYTE
        parts = {name: getattr(self, name).astype(np.float16) for name in _HALF}
        parts |= {f"family_{name}": self.families[name].astype(np.int32) for name in FAMILY.names or ()}
        parts |= {f"node_{name}": self.nodes[name].astype(kept) for name, kept in _NODE_KEPT.items()}
        bytes_of = np.rint(self.axes / np.maximum(scales, np.finfo(np.float32).tiny)).astype(np.int8)
        np.savez_compressed(held, axes=bytes_of, scales=scales, **parts)
        write_bytes(path, held.getvalue())

    @classmethod
    def load(cls, path: Path) -> "Mixture":
        """What `save` wrote."""
        with np.load(path) as kept:
            families = np.empty(len(kept["family_leaves"]), FAMILY)
            nodes = np.empty(len(kept["node_step"]), NODE)
            for name in FAMILY.names or ():
                families[name] = kept[f"family_{name}"]
            for name in _NODE_KEPT:
                nodes[name] = kept[f"node_{name}"]
            parts = {name: kept[name].astype(np.float32) for name in _HALF}
            return cls(axes=kept["axes"] * kept["scales"], families=families, nodes=nodes, **parts)


_HALF = ("left", "rests", "text_likeness", "text_offset", "text_axes")
_NODE_KEPT = {"parent": np.int16, "depth": np.int16, "step": np.float16, "length": np.float16}


def _lengths(points: Vectors) -> Vectors:
    squares: Vectors = np.einsum("ij,ij->i", points, points)
    return np.sqrt(squares)
