"""Fusion: several query vectors into one, by a weighted average on the unit sphere.

Training-free composition of pictures and words by weighted averaging in the shared space (WeiMoCIR, arXiv 2409.04918);
a negative weight pushes away from a part. The score of a hit is its cosine to the fused vector, so that scores of
different mixes stay on one scale.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lookalike.contracts.encoder import Vectors
from lookalike.contracts.errors import BadQuery

SMALLEST_NORM = 1e-4
"""Relative to the sum of absolute weights; below this the direction is rounding noise."""


def fuse(parts: Vectors, weights: Sequence[float]) -> Vectors:
    """q = Σ wᵢ pᵢ / ‖Σ wᵢ pᵢ‖ for unit rows `parts`, shape (n, dim); the result has shape (dim,).

    Raises BadQuery when the parts cancel each other out.
    """
    weighed = np.asarray(weights, dtype=np.float64)
    total = weighed @ parts.astype(np.float64)
    norm = float(np.linalg.norm(total))
    if not norm > SMALLEST_NORM * float(np.abs(weighed).sum()):
        raise BadQuery(
            "the parts of the query cancel each other out: nothing is left to look for. Change a weight or leave a "
            "part out."
        )
    return (total / norm).astype(np.float32)


def cosines(found: Vectors, queries: Vectors) -> NDArray[np.float64]:
    """Cosine of each found vector to each query vector, shape (len(found), len(queries)), rounded to 6 places.

    In float64 and row by row independent of the batch: one item gets one score on every page, and equal pictures
    get equal scores, so that ties are ties.
    """
    long = found.astype(np.float64)
    norms = np.sqrt(np.einsum("nd,nd->n", long, long))
    dots = np.stack([np.einsum("nd,d->n", long, query.astype(np.float64)) for query in queries], axis=1)
    rounded: NDArray[np.float64] = np.round(dots / np.maximum(norms, 1e-12)[:, None], 6)
    return rounded
