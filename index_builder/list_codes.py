"""List codes: items as RaBitQ codes of one to nine bits a dimension around the centre of their list.

Lists are found elsewhere, on other axes than those that are coded, so rows come with their lists. faiss adds such rows
to plain lists only; once full, these are packed for its fast scan.
"""

from typing import Any

import faiss
import numpy as np

from index_builder.list_centres import Lists
from lookalike.contracts.encoder import Vectors

FAISS: Any = faiss
BLOCK = 32
"""Codes that a fast scan reads at a time."""


def empty_codes(centres: Vectors, bits: int) -> Any:
    """An index of empty lists around `centres`, images of those of the lists, shape (nlist, d)."""
    flat = FAISS.IndexFlatIP(centres.shape[1])
    flat.add(np.ascontiguousarray(centres))
    index = FAISS.IndexIVFRaBitQ(flat, flat.d, flat.ntotal, faiss.METRIC_INNER_PRODUCT, True, bits)
    flat.this.disown()
    index.own_fields, index.is_trained = True, True  # there is nothing to learn
    return index


def add_codes(index: Any, images: Vectors, lists: Lists) -> None:
    """Add rows, shape (n, d), to their lists, shape (n,); they are numbered on from those that are there."""
    count = len(images)
    rows = np.arange(index.ntotal, index.ntotal + count)
    images, lists = np.ascontiguousarray(images), np.ascontiguousarray(lists)
    index.add_core(count, *(faiss.swig_ptr(each) for each in (images, rows, lists)))


def packed(index: Any) -> Any:
    """The same lists as a fast scan reads them; `index` must outlive it."""
    return FAISS.IndexIVFRaBitQFastScan(index, BLOCK)
