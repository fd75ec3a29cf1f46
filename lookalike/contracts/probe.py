"""Probe: 16 fixed pictures and 16 fixed texts with the vectors that the encoder gave when it was exported.

A hash proves that the files are the same; the probe proves that they compute the same here (another CPU, library
version or quantisation can differ). A server or job re-encodes it at start and refuses to go on below the bar.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lookalike.contracts.encoder import Encoder, Picture, Vectors
from lookalike.contracts.errors import SpaceMismatch

PROBE_COUNT = 16
MIN_PROBE_COSINE = 0.999


@dataclass(frozen=True)
class Probe:
    """Fixed inputs and the unit vectors, shape (16, dim) each, that they must give."""

    pictures: Sequence[Picture]
    texts: Sequence[str]
    picture_vectors: Vectors
    text_vectors: Vectors

    def lowest_cosine(self, encoder: Encoder) -> float:
        """Re-encode all inputs; the smallest cosine to the recorded vectors."""
        pictures = encoder.encode_pictures(self.pictures)
        texts = encoder.encode_texts(self.texts)
        return float(
            min(
                np.einsum("nd,nd->n", pictures, self.picture_vectors).min(),
                np.einsum("nd,nd->n", texts, self.text_vectors).min(),
            )
        )

    def require(self, encoder: Encoder) -> float:
        """Return the lowest cosine, or raise SpaceMismatch when it (or NaN) is below MIN_PROBE_COSINE."""
        lowest = self.lowest_cosine(encoder)
        if not lowest >= MIN_PROBE_COSINE:
            raise SpaceMismatch(
                f"encoder {encoder.space.encoder} does not reproduce its probe on this machine: lowest cosine "
                f"{lowest:.6f}, allowed from {MIN_PROBE_COSINE}. Its vectors cannot be compared with stored ones; "
                f"check the library versions against the lock file."
            )
        return lowest
