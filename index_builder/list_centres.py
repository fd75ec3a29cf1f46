"""List centres on the encoder's own axes: which list a vector belongs to, and which ones a query lies nearest to."""

from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from index_builder.axes import ROWS, even_product
from index_builder.grouped_centres import GroupedCentres
from index_builder.lists import MANY_LISTS
from index_builder.parts import finest
from lookalike.contracts.encoder import Vectors

Lists = NDArray[np.int64]


class ListCentres:
    """Over a faiss index of unit centres. Thread-safe."""

    def __init__(self, index: Any) -> None:
        # `index` owns the memory: a downcast of it alone would be left dangling.
        self._owner = index
        self.flat = flat = finest(index)
        """The faiss index that holds them, by inner product."""
        self.vectors: Vectors = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d).reshape(flat.ntotal, flat.d)
        """Shape (nlist, dim), in the order of the lists."""

    @classmethod
    def of(cls, centres: Vectors) -> "ListCentres":
        """Over unit centres, shape (nlist, dim)."""
        flat: Any = faiss.IndexFlatIP(centres.shape[1])
        flat.add(np.ascontiguousarray(centres))
        return cls(flat)

    @classmethod
    def read(cls, path: Path) -> "ListCentres":
        """What `write` wrote. Raises RuntimeError for another file."""
        return cls(faiss.read_index(str(path)))

    def write(self, path: Path) -> None:
        """As a faiss index."""
        faiss.write_index(self.flat, str(path))

    def __len__(self) -> int:
        return len(self.vectors)

    def nearest_of(self, vectors: Vectors) -> Lists:
        """The list that each vector belongs to, shape (n,), wherever it stands among the others."""
        if len(self) >= MANY_LISTS:
            return self._grouped.nearest_of(np.ascontiguousarray(vectors))
        found = np.empty(len(vectors), np.int64)
        for start in range(0, len(vectors), ROWS):
            block = slice(start, start + ROWS)
            found[block] = even_product(vectors[block], self.vectors.T).argmax(axis=1)
        return found

    def nearest(self, queries: Vectors, count: int) -> Lists:
        """So many lists nearest to each query, or all, nearest first, shape (q, count): all are compared."""
        return self.with_products(queries, count)[1]

    def with_products(self, queries: Vectors, count: int) -> tuple[Vectors, Lists]:
        """`nearest`, and before it the products of queries and centres."""
        products, lists = self.flat.search(queries, min(count, len(self)))
        return products, lists

    @cached_property
    def _grouped(self) -> GroupedCentres:
        return GroupedCentres(self.flat, self.vectors)
