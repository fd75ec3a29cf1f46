"""95 % percentile bootstrap intervals of means and of paired differences (Efron and Tibshirani, 1993, chapter 13).

Queries of one concept are not independent, so whole clusters (concepts) are drawn, never single queries of them.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2_000
CONFIDENCE = 0.95
_DRAWS_PER_BLOCK = 2_000_000  # bounds memory: 16 MB of indices at a time


Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval, over `n` values in `clusters` independent clusters. NaN values when n is 0."""

    value: float
    low: float
    high: float
    n: int
    clusters: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def mean_interval(
    values: ArrayLike, clusters: ArrayLike | None = None, *, seed: int, resamples: int = RESAMPLES
) -> Interval:
    """Mean of `values`, shape (n,), with its interval; `clusters`, shape (n,), names the cluster of each value.

    Without `clusters` each value stands for itself. A NaN among the values makes the whole interval NaN: a lost
    measurement must not be averaged away.
    """
    flat = np.asarray(values, dtype=np.float64)
    if flat.ndim != 1 or (clusters is not None and len(np.asarray(clusters)) != len(flat)):
        raise ValueError("values must have shape (n,), and clusters, where given, the same length")
    if len(flat) == 0:
        return Interval(np.nan, np.nan, np.nan, 0, 0)
    sums, counts = _by_cluster(flat, clusters)
    low, high = np.quantile(
        _resampled_means(sums, counts, seed, resamples), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    )
    return Interval(float(flat.mean()), float(low), float(high), len(flat), len(sums))


def paired_difference(
    ours: ArrayLike, theirs: ArrayLike, clusters: ArrayLike | None = None, *, seed: int, resamples: int = RESAMPLES
) -> Interval:
    """Mean of `ours - theirs` over the same queries, with its interval. Positive: ours is better."""
    first, second = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"a paired difference needs the same queries: got {first.shape} and {second.shape} values")
    return mean_interval(first - second, clusters, seed=seed, resamples=resamples)


def _by_cluster(values: Floats, clusters: ArrayLike | None) -> tuple[Floats, Floats]:
    if clusters is None:
        return values, np.ones(len(values))
    _, codes = np.unique(np.asarray(clusters), return_inverse=True)
    counts = np.asarray(np.bincount(codes), dtype=np.float64)
    return np.asarray(np.bincount(codes, weights=values), dtype=np.float64), counts


def _resampled_means(sums: Floats, counts: Floats, seed: int, resamples: int) -> Floats:
    rng, size = np.random.default_rng(seed), len(sums)
    block = max(1, _DRAWS_PER_BLOCK // size)
    means = np.empty(resamples)
    for start in range(0, resamples, block):
        drawn = rng.integers(size, size=(min(block, resamples - start), size))
        means[start : start + len(drawn)] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means
