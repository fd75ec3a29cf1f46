"""Graphs: an index that is a graph over plain vectors, made row by row on the CPU or from neighbours that a GPU found.

Either way it is the same kind of index, so that nobody who opens it can tell, but by the manifest. Inserting depends in
faiss on the order in which threads finish: one does it.
"""

from collections.abc import Iterable
from typing import Any

import faiss
import numpy as np

from index_builder import gpu
from index_builder.device import Device, gpu_graph_bytes, require_gpu
from index_builder.facts import GRAPH
from index_builder.parts import empty_index, finest, one_thread
from lookalike.contracts.encoder import Vectors
from lookalike.contracts.manifest import IndexRecipe
from lookalike.contracts.progress import Step

FEWEST_ROWS = 1_024
"""Of a graph made on a GPU: with fewer, some might have no row on an upper level, where a search begins."""
ROWS_LINKED = 65_536
"""Of which links are written at a time."""


def devices_of(recipe: IndexRecipe, rows: int, pinned: Device) -> dict[str, Device]:
    """For the facts: where the graph of a recipe is made, if it has one."""
    if "efSearch" not in recipe.search:
        return {}
    return {GRAPH: pinned if rows >= FEWEST_ROWS else "cpu"}


def fill(recipe: IndexRecipe, dim: int, rows: int, blocks: Iterable[Vectors], pinned: Device, step: Step) -> Any:
    """The index of a recipe without lists over `rows` vectors, which come in blocks.

    Raises MissingPrerequisite when its graph is to be made on a GPU and none can be used here.
    """
    by_gpu = devices_of(recipe, rows, pinned).get(GRAPH) == "gpu"
    index = empty_index(recipe, dim)
    if by_gpu:
        require_gpu(gpu_graph_bytes(rows, dim), "making the graph")
        index.init_level0 = False
    with one_thread():
        for block in blocks:
            index.add(block)
            step.advance(len(block))
    if by_gpu:
        flat = finest(index)
        vectors = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * dim).reshape(flat.ntotal, dim)
        link(index, gpu.neighbours(vectors))
    return index


def link(index: Any, neighbours: gpu.Neighbours) -> None:
    """Give a graph whose upper levels are there its lowest one, in place.

    `neighbours`: shape (n, degree), at most as many as the graph has room for; what is no row, or the row itself, is
    left out. Raises ValueError when shapes do not match.
    """
    hnsw, room = index.hnsw, index.hnsw.nb_neighbors(0)
    if neighbours.shape[0] != index.ntotal or neighbours.shape[1] > room:
        raise ValueError(f"neighbours of {index.ntotal} rows are at most {room} each; got {neighbours.shape}")
    links = faiss.rev_swig_ptr(hnsw.neighbors.data(), hnsw.neighbors.size())
    starts = faiss.vector_to_array(hnsw.offsets)[:-1].astype(np.int64)
    for first in range(0, len(neighbours), ROWS_LINKED):
        some = neighbours[first : first + ROWS_LINKED]
        own = np.arange(first, first + len(some))[:, None]
        wrong = (some < 0) | (some >= index.ntotal) | (some == own)
        # A search ends at the first that is none, so these come last.
        order = np.argsort(wrong, axis=1, kind="stable")
        kept = np.take_along_axis(np.where(wrong, -1, some), order, axis=1)
        full = np.full((len(some), room), -1, np.int32)
        full[:, : kept.shape[1]] = kept
        links[starts[first : first + len(some), None] + np.arange(room)] = full
    index.init_level0 = True
