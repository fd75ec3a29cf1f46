"""List centres on the encoder's own axes: which lists a vector lies nearest to, all compared or by a graph.

A graph costs more than comparing all centres as soon as one list in so many is wanted, and always where there are few.
"""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from index_builder.axes import ROWS, even_product
from index_builder.lists import GRAPH_LINKS, MANY_LISTS
from index_builder.parts import finest, one_thread
from index_builder.search_parameters import FAISS
from lookalike.contracts.encoder import Vectors

GRAPH_DEPTH = 48
"""Of a vector's own list."""
BY_GRAPH = 8
"""The graph is asked where fewer than one list in so many is wanted; else all are compared."""
SEARCH_DEPTH = 2
"""The graph looks at this many times the lists wanted, or the nearest lists themselves would be missed."""
SEARCH_LEAST = 64

Lists = NDArray[np.int64]


class ListCentres:
    """Over a faiss index of unit centres, flat or a graph. Thread-safe."""

    def __init__(self, index: Any) -> None:
        # `index` owns the memory: a downcast of it alone would be left dangling.
        self._owner, self._index = index, faiss.downcast_index(index)
        self._flat = flat = finest(self._index)
        self.vectors: Vectors = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d).reshape(flat.ntotal, flat.d)
        """Shape (nlist, dim), in the order of the lists."""

    @classmethod
    def of(cls, centres: Vectors) -> "ListCentres":
        """Over unit centres, shape (nlist, dim); the same bytes for the same ones."""
        if len(centres) < MANY_LISTS:
            index: Any = faiss.IndexFlatIP(centres.shape[1])
        else:
            index = faiss.IndexHNSWFlat(centres.shape[1], GRAPH_LINKS, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efSearch = GRAPH_DEPTH
        with one_thread():  # the order of insertion makes the graph
            index.add(np.ascontiguousarray(centres))
        return cls(index)

    @classmethod
    def read(cls, path: Path) -> "ListCentres":
        """What `write` wrote. Raises RuntimeError for another file."""
        return cls(faiss.read_index(str(path)))

    def write(self, path: Path) -> None:
        """As a faiss index."""
        faiss.write_index(self._index, str(path))

    def __len__(self) -> int:
        return len(self.vectors)

    def nearest_of(self, vectors: Vectors) -> Lists:
        """The list that each vector belongs to, shape (n,), wherever it stands among the others."""
        if isinstance(self._index, faiss.IndexHNSW):
            return np.asarray(self._index.search(vectors, 1)[1][:, 0])
        found = np.empty(len(vectors), np.int64)
        for start in range(0, len(vectors), ROWS):
            block = slice(start, start + ROWS)
            found[block] = even_product(vectors[block], self.vectors.T).argmax(axis=1)
        return found

    def nearest(self, queries: Vectors, count: int) -> Lists:
        """So many lists nearest to each query, or all, nearest first, shape (q, count)."""
        if isinstance(self._index, faiss.IndexHNSW) and count * BY_GRAPH < len(self):
            params = FAISS.SearchParametersHNSW(efSearch=max(SEARCH_LEAST, SEARCH_DEPTH * count))
            return np.asarray(self._index.search(queries, count, params=params)[1])
        return np.asarray(self._flat.search(queries, min(count, len(self)))[1])
