"""open_clip checkpoints from a local folder: `open_clip_config.json` beside safetensors, as open_clip writes them.

Marqo-Ecommerce and SigLIP models of that format open the same way. Weights are loaded here and not by open_clip, which
would take a pickle where it finds one.
"""

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from lookalike.contracts.encoder import Picture, Prepared
from lookalike.contracts.errors import CorruptArtifact
from lookalike.contracts.space import EmbeddingSpace
from models.checkpoint_files import safetensors_files, tokenizer_files
from models.fingerprints import sha256_of_files
from models.preparation import not_too_long, require_picture
from models.torch_encoder import TorchEncoder

CONFIG = "open_clip_config.json"
_PREFERRED = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors")
_WRAPPER = "model."  # Marqo's Hugging Face files hold open_clip's module under this name


class OpenClipEncoder(TorchEncoder):
    """Any open_clip model with encode_image and encode_text."""

    def __init__(
        self, model: Any, transform: Callable[[Image.Image], Tensor], tokenizer: Any, space: EmbeddingSpace,
        device: torch.device,
    ) -> None:  # fmt: skip
        super().__init__(space, device)
        self._model = model.eval().to(device)
        self._transform, self._tokenizer = transform, tokenizer
        self._tokenizer_lock = threading.Lock()  # Hugging Face tokenizers change their padding state on every call

    def prepare(self, picture: Picture) -> Prepared:
        """float32, shape (3, side, side), by the checkpoint's own transform."""
        require_picture(picture)
        return np.asarray(self._transform(not_too_long(picture)), dtype=np.float32)

    def _encode_picture_batch(self, batch: Tensor) -> Tensor:
        vectors: Tensor = self._model.encode_image(batch)
        return vectors

    def _encode_text_batch(self, texts: Sequence[str]) -> Tensor:
        with self._tokenizer_lock:
            tokens = self._tokenizer(list(texts))
        vectors: Tensor = self._model.encode_text(tokens.to(self._device))
        return vectors


def open_open_clip(folder: Path, device: torch.device) -> OpenClipEncoder:
    """Open a folder of open_clip's format. Raises CorruptArtifact when weights and configuration do not fit."""
    import open_clip

    place = f"local-dir:{folder}"
    model, _, transform = open_clip.create_model_and_transforms(
        place, load_weights=False, pretrained_text=False, pretrained_image=False
    )
    names = safetensors_files(folder)
    weights = next((name for name in _PREFERRED if name in names), names[0])
    state = load_file(folder / weights)
    if all(key.startswith(_WRAPPER) for key in state):
        state = {key.removeprefix(_WRAPPER): value for key, value in state.items()}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise CorruptArtifact(f"{folder}: {weights} does not fit {CONFIG}: {error}") from error
    return OpenClipEncoder(model, transform, open_clip.get_tokenizer(place), _space(folder, weights, model), device)


def _space(folder: Path, weights: str, model: Any) -> EmbeddingSpace:
    config = json.loads((folder / CONFIG).read_text())
    architecture, preparation = (
        json.dumps(config.get(key, {}), sort_keys=True) for key in ("model_cfg", "preprocess_cfg")
    )
    return EmbeddingSpace(
        encoder=folder.name,
        weights_sha256=sha256_of_files(folder, [weights], architecture),
        preprocessing_sha256=sha256_of_files(folder, [], f"open_clip/{preparation}"),
        tokenizer_sha256=sha256_of_files(folder, tokenizer_files(folder), f"open_clip/{architecture}"),
        dim=int(config["model_cfg"]["embed_dim"]) if "model_cfg" in config else int(model.visual.output_dim),
    )
