"""A deterministic encoder that Spark's workers can import: a fixed random projection of an 8x8 thumbnail."""

import os
import time

import numpy as np
from PIL import Image

from lookalike.contracts.probe import PROBE_COUNT, Probe
from lookalike.contracts.space import EmbeddingSpace

DIM = 16


class TinyEncoder:
    def __init__(self, seed: int = 0) -> None:
        digest = f"{seed:064x}"
        self.space = EmbeddingSpace(
            encoder="tiny", weights_sha256=digest, preprocessing_sha256=digest, tokenizer_sha256=digest, dim=DIM
        )
        self._weights = np.random.default_rng(seed).standard_normal((192, DIM)).astype(np.float32)
        self.pause = float(os.environ.get("TINY_PAUSE", "0"))

    def prepare(self, picture):
        return np.asarray(Image.fromarray(picture).resize((8, 8)), np.float32).ravel() / 255 + 0.01

    def encode_prepared(self, batch):
        time.sleep(self.pause)
        if not len(batch):
            return np.zeros((0, DIM), np.float32)
        vectors = np.stack([each @ self._weights for each in batch])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def encode_pictures(self, pictures):
        return self.encode_prepared([self.prepare(picture) for picture in pictures])

    def encode_texts(self, texts):
        return self.encode_prepared([np.full(192, 1.0 + len(text), np.float32) for text in texts])


def probe_of(encoder: TinyEncoder) -> Probe:
    pictures = [np.full((8, 8, 3), 10 * i, np.uint8) for i in range(PROBE_COUNT)]
    texts = ["x" * i for i in range(PROBE_COUNT)]
    return Probe(pictures, texts, encoder.encode_pictures(pictures), encoder.encode_texts(texts))


def open_tiny(path: str, device: str, threads: int):
    encoder = TinyEncoder()
    return encoder, probe_of(encoder)


def open_drifted(path: str, device: str, threads: int):
    """Claims to be the tiny encoder, computes something else: only the probe can tell."""
    encoder = TinyEncoder(seed=1)
    encoder.space = TinyEncoder().space
    return encoder, probe_of(TinyEncoder())
