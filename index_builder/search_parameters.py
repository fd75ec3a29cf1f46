"""Search parameters of one call, made for the kind of index at hand; nothing is set on the shared index itself.

Every kind in the recipes honours a bitmap of allowed rows (tested).
"""

from typing import Any

import faiss
import numpy as np

from lookalike.contracts.encoder import Vectors
from lookalike.contracts.row_set import RowSet
from lookalike.contracts.sealed_index import Rows

FAISS: Any = faiss
"""Its Python layer takes keywords that its type stubs do not know."""


def selector(allowed: RowSet | None) -> Any | None:
    """Bitmap selector of the allowed rows, or None for all."""
    return None if allowed is None else FAISS.IDSelectorBitmap(allowed.bits)


def parameters(index: Any, search: dict[str, int], chosen: Any | None) -> Any:
    """faiss search parameters for `index` from the plain numbers of a recipe or plan, with the selector."""
    index = faiss.downcast_index(index)
    selected = {} if chosen is None else {"sel": chosen}
    if isinstance(index, faiss.IndexHNSW):
        return FAISS.SearchParametersHNSW(efSearch=search["efSearch"], **selected)
    return FAISS.SearchParameters(**selected)


def search_lists(index: Any, queries: Vectors, k: int, lists: Rows, chosen: Any | None) -> tuple[Vectors, Rows]:
    """Best k rows that the selector allows, of these lists of each query, shape (q, lists), -1 for none."""
    scores, rows = np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), -1, np.int64)
    if not lists.shape[1]:
        return scores, rows
    inner: Any = faiss.downcast_index(index)
    queries, lists = np.ascontiguousarray(queries), np.ascontiguousarray(lists)
    products = _products(inner, queries, lists)
    selected = {} if chosen is None else {"sel": chosen}
    given = FAISS.SearchParametersIVF(nprobe=lists.shape[1], **selected)
    arrays = [faiss.swig_ptr(each) for each in (queries, lists, products, scores, rows)]
    # The Python layer's own call takes no parameters.
    inner.search_preassigned_c(len(queries), arrays[0], k, *arrays[1:], False, given)
    return scores, rows


def products_of(flat: Any, queries: Vectors, rows: Rows) -> Vectors:
    """Inner products of each query with these rows of a flat index, shape (q, r); any for row -1."""
    queries, rows = np.ascontiguousarray(queries), np.ascontiguousarray(rows)
    found = np.zeros(rows.shape, np.float32)
    arrays = [faiss.swig_ptr(each) for each in (found, rows)]
    flat.compute_distance_subset(len(queries), faiss.swig_ptr(queries), rows.shape[1], *arrays)
    return found


def _products(inner: Any, queries: Vectors, lists: Rows) -> Vectors:
    """Of the queries and centres as they are coded; codes of older artifacts, not of deviations, need none."""
    if not isinstance(inner, faiss.IndexIVFPQFastScan):
        return np.zeros(lists.shape, np.float32)
    found = products_of(faiss.downcast_index(inner.quantizer), queries, lists)
    # All products of a query are rounded by their span, so one that stands for none must not widen it.
    first = np.where(lists[:, :1] < 0, 0, found[:, :1])
    return np.where(lists < 0, first, found).astype(np.float32)
