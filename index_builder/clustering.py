"""List centres by spherical k-means: at once where there are few or a GPU does it, in two levels where there are many.

A round of k-means compares every vector with every centre: hours for 65,536 lists on two cores. Groups first, and then
each group's share of the lists within it, is some two hundred times less; what the borders between groups lose, a few
rounds over all centres win back, in which only centres near each vector are compared (`grouped_centres.py`). For a GPU
such a round is seconds (4 million vectors of 512 dimensions: 280 Tflop), so it needs neither.
"""

import math
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
from numpy.typing import NDArray

from index_builder import gpu
from index_builder.device import Device, gpu_lists_bytes, require_gpu
from index_builder.k_means import k_means
from index_builder.list_centres import ListCentres
from index_builder.lists import MANY_LISTS
from index_builder.parts import use_threads
from lookalike.contracts.encoder import Vectors

GROUP_SAMPLE = 256
"""Vectors per group that the groups are found with."""
LAST_ROUNDS = 3
BLOCK_ROWS = 16_384


def find_centres(sample: Vectors, nlist: int, device: Device = "cpu") -> Vectors:
    """Unit centres, shape (nlist, dim), of unit vectors, shape (n, dim), n >= nlist; the same for the same sample.

    Raises MissingPrerequisite when `device` is gpu and none can be used here.
    """
    if device == "gpu":
        require_gpu(gpu_lists_bytes(nlist, sample.shape[1]), "training")
        return k_means(sample, nlist, gpu.flat_index(sample.shape[1]))
    if nlist < MANY_LISTS:
        return k_means(sample, nlist)
    centres = _two_levels(sample, nlist)
    for _ in range(LAST_ROUNDS):
        centres = _moved(centres, sample, nearest_centres(centres, sample))
    return centres


def nearest_centres(centres: Vectors, vectors: Vectors) -> NDArray[np.int64]:
    """Number of the centre nearest to each vector: exactly where there are few; see ListCentres."""
    return ListCentres.of(centres).nearest_of(vectors)


def allotted(counts: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """Shares of `total` in proportion to `counts`, each at least one where there is something and at most its count.

    Raises ValueError when that cannot be.
    """
    there = np.flatnonzero(counts)
    if not len(there) <= total <= counts.sum():
        raise ValueError(f"{total} cannot be shared among {len(there)} groups of {counts.sum()} in all")
    exact = counts * (total / counts.sum())
    shares = np.clip(np.floor(exact).astype(np.int64), (counts > 0).astype(np.int64), counts)
    while (missing := total - int(shares.sum())) != 0:
        # Whoever is furthest from its exact share comes first; equal ones in their order.
        step = 1 if missing > 0 else -1
        may = np.flatnonzero(shares < counts if missing > 0 else shares > 1)
        order = may[np.argsort(step * (shares - exact)[may], kind="stable")]
        shares[order[: abs(missing)]] += step
    return shares


def _two_levels(sample: Vectors, nlist: int) -> Vectors:
    groups = math.isqrt(nlist)
    few = sample[np.linspace(0, len(sample) - 1, min(len(sample), GROUP_SAMPLE * groups)).astype(np.int64)]
    member = nearest_centres(k_means(few, groups), sample)
    shares = allotted(np.bincount(member, minlength=groups), nlist)
    # Threads that share one small product wait for each other; a group each, they never do.
    with ThreadPoolExecutor(faiss.omp_get_max_threads(), initializer=use_threads, initargs=(1,)) as pool:
        found = pool.map(lambda group: k_means(sample[member == group], int(shares[group])), np.flatnonzero(shares))
        return np.concatenate(list(found))


def _moved(centres: Vectors, sample: Vectors, nearest: NDArray[np.int64]) -> Vectors:
    """Each centre in the middle of its vectors; one that has none stays."""
    sums = np.zeros(centres.shape, np.float64)
    for start in range(0, len(sample), BLOCK_ROWS):
        numbers = nearest[start : start + BLOCK_ROWS]
        order = np.argsort(numbers, kind="stable")
        present, first = np.unique(numbers[order], return_index=True)
        sums[present] += np.add.reduceat(sample[start : start + BLOCK_ROWS][order], first, axis=0)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    moved: Vectors = np.where(norms > 0, sums / np.where(norms > 0, norms, 1), centres).astype(np.float32)
    return moved
