"""List codes: items as product codes, each of their axes in 4 bits, of what they deviate from the centre of their list.

Lists are found elsewhere, on other axes than those that are coded, so rows come with their lists. faiss adds such rows
to plain lists only; once full, these are packed for its fast scan, which reads a table of 16 products per axis from
registers (André, Kermarrec & Le Scouarnec 2015).
"""

from typing import Any

import faiss
import numpy as np

from index_builder.list_centres import Lists
from lookalike.contracts.encoder import Vectors

FAISS: Any = faiss
BLOCK = 32
"""Codes that a fast scan reads at a time."""
BITS = 4
"""Of each axis: a table of 16 entries fits a register."""
AXES = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)


def most_axes(dim: int, code_bytes: int) -> int:
    """That fit the bytes, or all there are."""
    return min(code_bytes * 8 // BITS, dim)


def numbers_of_axes(most: int) -> list[int]:
    """That a trial tries, ascending."""
    return [count for count in AXES if count < most] + [most]


def empty_codes(centres: Vectors, images: Vectors, lists: Lists) -> Any:
    """An index of empty lists around `centres`, images of those of the lists, shape (nlist, d).

    `images`, shape (n, d), of rows in `lists`, shape (n,), are what the codes are learned from; the same index for the
    same ones.
    """
    flat = FAISS.IndexFlatIP(centres.shape[1])
    flat.add(np.ascontiguousarray(centres))
    index = FAISS.IndexIVFPQ(flat, flat.d, flat.ntotal, flat.d, BITS, faiss.METRIC_INNER_PRODUCT)
    flat.this.disown()
    index.own_fields, index.by_residual = True, True
    deviations = np.ascontiguousarray(images - centres[lists])
    index.pq.cp.min_points_per_centroid = 1
    index.pq.train(deviations)
    index.is_trained = True
    return index


def add_codes(index: Any, images: Vectors, lists: Lists) -> None:
    """Add rows, shape (n, d), to their lists, shape (n,); they are numbered on from those that are there."""
    count = len(images)
    rows = np.arange(index.ntotal, index.ntotal + count)
    images, lists = np.ascontiguousarray(images), np.ascontiguousarray(lists)
    index.add_core(count, *(faiss.swig_ptr(each) for each in (images, rows, lists)))


def packed(index: Any) -> Any:
    """The same lists as a fast scan reads them; `index` must outlive it."""
    return FAISS.IndexIVFPQFastScan(index, BLOCK)
