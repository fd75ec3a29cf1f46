"""Coded block: vectors as half floats, scanned by FAISS; the overlay's fresh vectors are searched through such blocks.

With c the vector rounded to half floats, |q·v − q·c| ≤ ‖q‖ ‖v − c‖ (Cauchy and Schwarz), so the greatest such distance
bounds the error of every score: some 0.0003, where bytes have 0.02 and near-duplicates then cannot be told apart.
"""

from functools import cached_property
from typing import Any, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from index_builder.search_parameters import parameters, selector
from lookalike.contracts.encoder import Vectors
from lookalike.contracts.row_set import RowSet
from lookalike.contracts.sealed_index import Rows

ROUNDING = 1e-5
"""Sums of float32 in the scan: far above what 4,096 dimensions add up to for unit vectors."""


class CodedBlock:
    """The VectorBlock port over one FAISS scalar quantiser."""

    def __init__(self, index: Any, distance: float) -> None:
        """`distance`: greatest distance of a vector from its code."""
        self._index, self._distance = index, distance

    @classmethod
    def of(cls, vectors: Vectors) -> Self:
        """Code these vectors, shape (n, dim), norm 1."""
        index = _empty(vectors.shape[1])
        index.add(np.ascontiguousarray(vectors, dtype=np.float32))
        distances = np.linalg.norm(vectors - vectors.astype(np.float16), axis=1)
        return cls(index, float(distances.max(initial=0.0)))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def bytes(self) -> int:
        """Two bytes per number."""
        return len(self) * int(self._index.code_size)

    @property
    def error(self) -> float:
        """See the port."""
        return self._distance + ROUNDING

    def nearest(self, query: Vectors, k: int, allowed: NDArray[np.bool_]) -> tuple[Vectors, Rows]:
        """See the port."""
        matching = int(np.count_nonzero(allowed))
        if matching == 0:
            return np.empty(0, np.float32), np.empty(0, np.int64)
        chosen = None if matching == len(self) else selector(RowSet.of(allowed))
        scores, rows = self._index.search(query[None], min(k, matching), params=parameters(self._index, {}, chosen))
        return scores[0], rows[0]

    def joined(self, other: Self) -> Self:
        """See the port. Codes are copied, nothing is coded anew."""
        index = _empty(self._index.d)
        for part in (self, other):
            index.add_sa_codes(part._codes)
        return type(self)(index, max(self._distance, other._distance))

    @cached_property
    def _codes(self) -> NDArray[np.uint8]:
        size = self._index.code_size
        return np.asarray(faiss.rev_swig_ptr(self._index.codes.data(), len(self) * size)).reshape(-1, size)


def _empty(dim: int) -> Any:
    return faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
