"""Ground truth from labels: the same group is exact (grade 2), the same last category is related (grade 1)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lookalike.evaluation.metrics import Grades, Mask

EXACT, RELATED, OTHER = 2, 1, 0
UNKNOWN = -1
"""Code of a missing label; it equals nothing, not even another missing label."""

Codes = NDArray[np.int64]


def last_category(path: Sequence[str] | None) -> str | None:
    """The narrowest category of a path, None where there is none."""
    return "/".join(path) if path else None


def label_codes(*columns: Sequence[str | None]) -> tuple[Codes, ...]:
    """Number the labels of several columns with one common numbering; None becomes UNKNOWN."""
    numbers: dict[str, int] = {}
    return tuple(
        np.fromiter(
            (UNKNOWN if label is None else numbers.setdefault(label, len(numbers)) for label in column),
            dtype=np.int64,
            count=len(column),
        )
        for column in columns
    )


def same(queries: Codes, gallery: Codes) -> Mask:
    """Equal and known labels, shape (len(queries), len(gallery))."""
    return np.asarray((queries[:, None] == gallery[None, :]) & (queries != UNKNOWN)[:, None])


def grade(exact: Mask, related: Mask) -> Grades:
    """Grades of two masks of one shape; exact outweighs related."""
    return np.where(exact, EXACT, np.where(related, RELATED, OTHER)).astype(np.int64)
