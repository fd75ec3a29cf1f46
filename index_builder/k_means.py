"""Spherical k-means, as faiss does it: the same centres for the same vectors, with any number of threads."""

from typing import Any

import faiss
import numpy as np

from lookalike.contracts.encoder import Vectors

SEED = 1_234
ROUNDS = 12


def k_means(sample: Vectors, count: int, compared: Any = None) -> Vectors:
    """Unit centres, shape (count, dim), of unit vectors, shape (n, dim), n >= count.

    `compared`: an empty faiss index that finds the nearest centre; without one all are compared on the CPU.
    """
    clustering = faiss.Clustering(sample.shape[1], count)
    clustering.niter, clustering.seed, clustering.spherical = ROUNDS, SEED, True
    clustering.min_points_per_centroid = 1
    clustering.max_points_per_centroid = max(256, len(sample) // count + 1)
    if compared is None:
        compared = faiss.IndexFlatIP(sample.shape[1])
    clustering.train(np.ascontiguousarray(sample), compared)
    return np.array(faiss.vector_to_array(clustering.centroids).reshape(count, sample.shape[1]))
