"""Search parameters of one call, made for the kind of index at hand; nothing is set on the shared index itself.

Every kind in the recipes honours a bitmap of allowed rows (tested).
"""

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

FAISS: Any = faiss
"""Its Python layer takes keywords that its type stubs do not know."""
COARSE_DEPTH = 2
"""The graph over list centres looks at this many times nprobe, or the nearest lists themselves would be missed."""
COARSE_LEAST = 64


def selector(allowed: NDArray[np.bool_] | None) -> Any | None:
    """Bitmap selector of the allowed rows, or None for all."""
    return None if allowed is None else FAISS.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))


def parameters(index: Any, search: dict[str, int], chosen: Any | None) -> Any:
    """faiss search parameters for `index` from the plain numbers of a recipe or plan, with the selector."""
    index = faiss.downcast_index(index)
    selected = {} if chosen is None else {"sel": chosen}
    if isinstance(index, faiss.IndexIVF):
        coarse = FAISS.SearchParametersHNSW(efSearch=max(COARSE_LEAST, COARSE_DEPTH * search["nprobe"]))
        return FAISS.SearchParametersIVF(nprobe=search["nprobe"], quantizer_params=coarse, **selected)
    if isinstance(index, faiss.IndexHNSW):
        return FAISS.SearchParametersHNSW(efSearch=search["efSearch"], **selected)
    return FAISS.SearchParameters(**selected)
