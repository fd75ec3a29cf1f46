"""What all encoders share: device, batches, normalisation. A kind of encoder adds its preparation and its towers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lookalike.contracts.encoder import Picture, Prepared, Vectors
from lookalike.contracts.errors import LookalikeError, MissingPrerequisite
from lookalike.contracts.space import EmbeddingSpace

T = TypeVar("T")
_BATCH_CPU, _BATCH_GPU = 64, 512


def choose_device(name: str, threads: int) -> torch.device:
    """`auto` is the first GPU where there is one. `threads` above 0 sets torch's threads for the whole process."""
    if threads > 0:
        torch.set_num_threads(threads)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise MissingPrerequisite(
            "encoder.device is cuda, but torch finds no GPU here; set encoder.device to auto or cpu"
        )
    return torch.device(name)


class TorchEncoder(ABC):
    """An Encoder on torch modules. Inference holds no state, so threads may share one object."""

    def __init__(self, space: EmbeddingSpace, device: torch.device) -> None:
        self._space, self._device = space, device

    @property
    def space(self) -> EmbeddingSpace:
        return self._space

    @property
    def device(self) -> torch.device:
        return self._device

    @abstractmethod
    def prepare(self, picture: Picture) -> Prepared:
        """One decoded picture as the model takes it."""

    @abstractmethod
    def _encode_picture_batch(self, batch: Tensor) -> Tensor:
        """Stacked prepared pictures on the device -> vectors, shape (n, dim), of any length."""

    @abstractmethod
    def _encode_text_batch(self, texts: Sequence[str]) -> Tensor:
        """Texts -> vectors, shape (n, dim), of any length."""

    def encode_prepared(self, batch: Sequence[Prepared]) -> Vectors:
        """Encode prepared pictures, float32 unit rows, shape (len(batch), dim)."""
        return self._in_batches(
            batch, lambda part: self._encode_picture_batch(torch.from_numpy(np.stack(part)).to(self._device))
        )

    def encode_pictures(self, pictures: Sequence[Picture]) -> Vectors:
        """Prepare and encode."""
        return self.encode_prepared([self.prepare(picture) for picture in pictures])

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Encode texts, float32 unit rows, shape (len(texts), dim). Raises LookalikeError for what is no string."""
        if isinstance(texts, str):
            raise LookalikeError("encode_texts takes a sequence of texts; put a single text into a list")
        return self._in_batches(texts, self._encode_text_batch)

    def _in_batches(self, inputs: Sequence[T], encode: Callable[[Sequence[T]], Tensor]) -> Vectors:
        size = _BATCH_GPU if self._device.type == "cuda" else _BATCH_CPU
        parts = [np.zeros((0, self._space.dim), dtype=np.float32)]
        with torch.inference_mode():
            for start in range(0, len(inputs), size):
                vectors = encode(inputs[start : start + size]).float()
                if not bool(torch.isfinite(vectors).all()):
                    raise LookalikeError(f"encoder {self._space.encoder} gave a vector that is not finite")
                parts.append(F.normalize(vectors, dim=1).cpu().numpy())
        return np.concatenate(parts)
