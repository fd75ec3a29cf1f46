"""The Encoder port: pictures and texts into one normalised space. Implemented in `models/`, used by everything else.

Preparation (CPU: resize, normalise) is apart from encoding (CPU or GPU), so that a job can prepare the next batch
in a bounded thread pool while the device works on this one.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lookalike.contracts.space import EmbeddingSpace

PACKAGED = "lookalike-mini"
"""Name of the encoder that comes with the package; wherever a path of an encoder is asked for, this is one."""

Picture = NDArray[np.uint8]
"""Decoded picture, uint8, shape (height, width, 3), RGB; transparency already composed on white."""

Prepared = NDArray[np.float32] | NDArray[np.uint8]
"""One picture as the model takes it, without the batch axis."""

Vectors = NDArray[np.float32]
"""Unit-length rows, float32, shape (n, dim)."""


class Encoder(Protocol):
    """A dual encoder. Thread-safe; rows of the results are L2-normalised and in the order of the input."""

    @property
    def space(self) -> EmbeddingSpace: ...

    def prepare(self, picture: Picture) -> Prepared:
        """Turn one decoded picture into the model's input."""
        ...

    def encode_prepared(self, batch: Sequence[Prepared]) -> Vectors:
        """Encode prepared pictures, shape (len(batch), dim). An empty batch gives shape (0, dim)."""
        ...

    def encode_pictures(self, pictures: Sequence[Picture]) -> Vectors:
        """`prepare` and `encode_prepared` in one call."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Encode texts, shape (len(texts), dim)."""
        ...
