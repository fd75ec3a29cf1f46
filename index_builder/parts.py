"""Parts of a faiss index: its inverted lists and its most exact codes, whatever wraps them; its making and threads."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faiss
from threadpoolctl import threadpool_limits

from lookalike.contracts.manifest import IndexRecipe


def empty_index(recipe: IndexRecipe, dim: int) -> Any:
    """An untrained, empty index of a recipe without lists."""
    return faiss.index_factory(dim, recipe.factory, faiss.METRIC_INNER_PRODUCT)


def coarse(index: Any) -> Any:
    """The part of an index that is searched first: the index itself, or what a refining one asks for candidates."""
    index = faiss.downcast_index(index)
    return faiss.downcast_index(index.base_index) if isinstance(index, faiss.IndexRefine) else index


def inverted_lists(index: Any) -> Any | None:
    """The IVF index inside `index`, or None where there is none."""
    index = coarse(index)
    return index if isinstance(index, faiss.IndexIVF) else None


def refinement(index: Any) -> Any | None:
    """The part of a refining index that holds the finer codes, or None."""
    index = faiss.downcast_index(index)
    return faiss.downcast_index(index.refine_index) if isinstance(index, faiss.IndexRefine) else None


def finest(index: Any) -> Any:
    """The part of the index that holds the most exact codes of every row, in row order."""
    refine = refinement(index)
    if refine is not None:
        return refine
    index = faiss.downcast_index(index)
    return faiss.downcast_index(index.storage) if isinstance(index, faiss.IndexHNSW) else index


def use_threads(count: int) -> None:
    """Let faiss use so many threads from now on, in this process."""
    faiss.omp_set_num_threads(count)


@contextmanager
def one_thread() -> Iterator[None]:
    """faiss uses one thread within this block: what it inserts into a graph, it then inserts in order."""
    threads = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(1)
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def one_blas_thread() -> threadpool_limits:
    """numpy's matrix decompositions use one thread within this block: with several they round in another order, and
    builds of equal vectors are to be equal bytes."""
    return threadpool_limits(limits=1, user_api="blas")
