"""Train and fill a faiss index so that the same vectors give the same bytes.

Two things in faiss depend on the order in which threads finish: inserting into a graph, and so the graph over the
list centres too. Both are done by one thread; clustering and list filling keep all threads, being deterministic.
"""

from collections.abc import Callable
from typing import Any

import faiss
import numpy as np

from index_builder.lists import derive_nlist, fewest_items
from lookalike.contracts.encoder import Vectors
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.manifest import IndexRecipe

SEED = 1_234
CLUSTER_ROUNDS = 12
ADD_ROWS = 8_192


def settle(recipe: IndexRecipe, items: int) -> IndexRecipe:
    """The recipe with its number of lists decided. Raises LookalikeError when it cannot train on so few items."""
    if "{nlist}" not in recipe.factory:
        return recipe
    fewest = fewest_items(recipe.train_points_per_list)
    if items < fewest:
        raise LookalikeError(
            f"recipe {recipe.name} cannot be trained on {items:,} items: it needs at least {fewest:,} "
            f"({recipe.train_points_per_list} per list). Choose recipe exact or hnsw, or leave index.recipe = auto."
        )
    nlist = recipe.nlist or derive_nlist(items, recipe.train_points_per_list)
    return recipe.model_copy(update={"nlist": nlist})


def train_and_fill(recipe: IndexRecipe, vectors: Vectors, advance: Callable[[int], None]) -> Any:
    """A filled faiss index over `vectors`, shape (n, dim); `recipe` is settled. Rows are numbered 0..n-1."""
    dim = vectors.shape[1]
    index = faiss.index_factory(dim, recipe.factory.format(nlist=recipe.nlist), faiss.METRIC_INNER_PRODUCT)
    inner = inverted_lists(index)
    if inner is not None:
        sample = _sample(vectors, recipe)
        _train_lists(inner, sample)
        index.train(sample)
        _widen_codes(index, vectors)
    threads = faiss.omp_get_max_threads()
    try:
        if inner is None:
            faiss.omp_set_num_threads(1)
        for start in range(0, len(vectors), ADD_ROWS):
            block = np.ascontiguousarray(vectors[start : start + ADD_ROWS], dtype=np.float32)
            index.add(block)
            advance(len(block))
    finally:
        faiss.omp_set_num_threads(threads)
    return index


def inverted_lists(index: Any) -> Any | None:
    """The IVF index inside `index`, or None where there is none."""
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexRefine):
        index = faiss.downcast_index(index.base_index)
    return index if isinstance(index, faiss.IndexIVF) else None


def _sample(vectors: Vectors, recipe: IndexRecipe) -> Vectors:
    wanted = min(len(vectors), (recipe.nlist or 1) * recipe.train_points_per_list)
    rows = np.sort(np.random.default_rng(SEED).choice(len(vectors), wanted, replace=False))
    return np.ascontiguousarray(vectors[rows], dtype=np.float32)


def _widen_codes(index: Any, vectors: Vectors) -> None:
    """Let the 8-bit codes span what all vectors span: a sample's range would clip the others."""
    if not isinstance(index, faiss.IndexRefine):
        return
    low, high = np.full(index.d, np.inf, np.float32), np.full(index.d, -np.inf, np.float32)
    for start in range(0, len(vectors), ADD_ROWS):
        block = vectors[start : start + ADD_ROWS]
        low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
    faiss.downcast_index(index.refine_index).train(np.stack([low, high]))


def _train_lists(inner: Any, sample: Vectors) -> None:
    """Cluster, then put the centres into the coarse quantiser by one thread; `train` finds it ready and leaves it."""
    clustering = faiss.Clustering(inner.d, inner.nlist)
    clustering.niter, clustering.seed, clustering.spherical = CLUSTER_ROUNDS, SEED, True
    clustering.max_points_per_centroid = max(256, len(sample) // inner.nlist + 1)
    clustering.train(sample, faiss.IndexFlatIP(inner.d))
    centres = faiss.vector_to_array(clustering.centroids).reshape(inner.nlist, inner.d)
    threads = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(1)
        inner.quantizer.train(centres)
        inner.quantizer.add(centres)
    finally:
        faiss.omp_set_num_threads(threads)
