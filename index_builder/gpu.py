"""GPU: what a build does on one: comparing vectors with list centres, and finding the neighbours of every vector.

faiss does the work, on the first GPU that CUDA shows. What comes back is plain arrays, and every index is made of them
on the CPU, so that no artifact needs a GPU to be opened.
"""

from functools import cache
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from index_builder.device import FIRST_DEGREE, GRAPH_DEGREE
from lookalike.contracts.encoder import Vectors

FAISS: Any = faiss
BLOCK_BYTES = 64 * 2**20
"""Of vectors that are sent at a time."""
WORK_BYTES = 512 * 2**20
"""Of the GPU's memory, set aside for faiss to work in; several processes may share one GPU."""

Lists = NDArray[np.int64]
Neighbours = NDArray[np.int32]


class CentresOnGpu:
    """List centres held on the GPU, all compared with each vector in float32."""

    def __init__(self, centres: Vectors) -> None:
        """`centres`: shape (nlist, dim)."""
        self._index = flat_index(centres.shape[1])
        self._index.add(np.ascontiguousarray(centres))

    def nearest_of(self, vectors: Vectors) -> Lists:
        """The list that each vector belongs to, shape (n,). Of two as near within rounding, either."""
        found, rows = np.empty(len(vectors), np.int64), rows_at_a_time(vectors.shape[1])
        for start in range(0, len(vectors), rows):
            block = np.ascontiguousarray(vectors[start : start + rows], dtype=np.float32)
            found[start : start + rows] = self._index.search(block, 1)[1][:, 0]
        return found


def rows_at_a_time(dim: int) -> int:
    """Vectors that are sent to the GPU together."""
    return max(1, BLOCK_BYTES // (4 * dim))


def flat_index(dim: int) -> Any:
    """Empty, of vectors compared by inner product on the GPU."""
    config = FAISS.GpuIndexFlatConfig()
    config.device, config.use_cuvs = 0, False  # faiss's own kernels: float32 throughout
    return FAISS.GpuIndexFlatIP(_resources(), dim, config)


def neighbours(vectors: Vectors) -> Neighbours:
    """A search graph over unit vectors, shape (n, dim): row numbers, shape (n, GRAPH_DEGREE), as CAGRA makes it
    (Ootomo et al. 2023, arXiv 2308.15136)."""
    config = FAISS.GpuIndexCagraConfig()
    config.device, config.store_dataset = 0, False
    config.graph_degree, config.intermediate_graph_degree = GRAPH_DEGREE, FIRST_DEGREE
    config.build_algo = FAISS.graph_build_algo_IVF_PQ
    # Of unit vectors the nearest are those of largest inner product.
    index = FAISS.GpuIndexCagra(_resources(), vectors.shape[1], faiss.METRIC_L2, config)
    index.train(vectors)
    found = index.get_knngraph()  # owns what the view of it shows
    return faiss.rev_swig_ptr(found.data(), found.size()).reshape(len(vectors), -1).astype(np.int32)


@cache
def _resources() -> Any:
    """Of this process, for as long as it lives."""
    resources = FAISS.StandardGpuResources()
    resources.setTempMemory(WORK_BYTES)
    return resources
