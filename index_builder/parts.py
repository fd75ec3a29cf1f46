"""Parts of a faiss index: its inverted lists and its most exact codes, whatever wraps them; and its threads."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np

from lookalike.contracts.encoder import Vectors


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


def list_centres(index: Any) -> Vectors | None:
    """Centres of the inverted lists, shape (nlist, dim), in the order of the lists; None without lists."""
    inner = inverted_lists(index)
    if inner is None:
        return None
    flat = finest(inner.quantizer)
    return np.asarray(flat.reconstruct_n(0, inner.nlist), dtype=np.float32)


@contextmanager
def one_thread() -> Iterator[None]:
    """faiss uses one thread within this block: what it inserts into a graph, it then inserts in order."""
    threads = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(1)
        yield
    finally:
        faiss.omp_set_num_threads(threads)
