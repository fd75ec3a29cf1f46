"""Assign: who finds the list that each vector belongs to, a GPU where the build was pinned for one and one is here.

Where a shard is encoded does not matter then: the lists are the same but for vectors that lie as near to two centres,
and, of very many lists, those few for which looking into some groups of them misses the nearest.
"""

from typing import Protocol

from index_builder.device import Device, gpu_lists_bytes, lacking
from index_builder.gpu import CentresOnGpu
from index_builder.list_centres import ListCentres, Lists
from lookalike.contracts.encoder import Vectors


class NearestCentre(Protocol):
    """Who finds it."""

    def nearest_of(self, vectors: Vectors) -> Lists: ...


def nearest_centre(centres: ListCentres, pinned: Device) -> tuple[NearestCentre, Device]:
    """Who finds the lists of a shard, and on which device."""
    if pinned == "gpu" and not lacking(gpu_lists_bytes(*centres.vectors.shape)):
        return CentresOnGpu(centres.vectors), "gpu"
    return centres, "cpu"
