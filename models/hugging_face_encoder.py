"""CLIP and SigLIP (and SigLIP 2 of fixed resolution, which has the same format) from a Hugging Face folder.

The files are those of `save_pretrained`: config.json, model.safetensors, preprocessor_config.json, tokenizer files.
"""

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lookalike.contracts.encoder import Picture, Prepared
from lookalike.contracts.errors import CorruptArtifact, LookalikeError, NotFound
from lookalike.contracts.space import EmbeddingSpace
from models.checkpoint_files import safetensors_files, tokenizer_files
from models.fingerprints import sha256_of_files
from models.preparation import not_too_long, require_picture
from models.torch_encoder import TorchEncoder

MODEL_TYPES = ("clip", "siglip")
PREPROCESSOR = "preprocessor_config.json"


class HuggingFaceEncoder(TorchEncoder):
    """A transformers model with get_image_features and get_text_features."""

    def __init__(
        self, model: Any, processor: Any, tokenizer: Any, text_options: dict[str, Any], space: EmbeddingSpace,
        device: torch.device,
    ) -> None:  # fmt: skip
        super().__init__(space, device)
        self._model = model.eval().to(device)
        self._processor, self._tokenizer, self._text_options = processor, tokenizer, text_options
        self._tokenizer_lock = threading.Lock()  # a fast tokenizer sets padding and truncation on every call

    def prepare(self, picture: Picture) -> Prepared:
        """float32, shape (3, side, side), by the checkpoint's own image processor."""
        require_picture(picture)
        pixels = self._processor(images=not_too_long(picture), return_tensors="np")["pixel_values"][0]
        return np.asarray(pixels, dtype=np.float32)

    def _encode_picture_batch(self, batch: Tensor) -> Tensor:
        return _features(self._model.get_image_features(pixel_values=batch))

    def _encode_text_batch(self, texts: Sequence[str]) -> Tensor:
        with self._tokenizer_lock:
            inputs = self._tokenizer(list(texts), truncation=True, return_tensors="pt", **self._text_options)
        return _features(self._model.get_text_features(**inputs.to(self._device)))


def _features(output: Any) -> Tensor:
    """transformers 4 returns the projected tensor, 5 an output object that holds it."""
    return output if isinstance(output, Tensor) else output.pooler_output


def open_hugging_face(folder: Path, device: torch.device, allow_remote_code: bool) -> HuggingFaceEncoder:
    """Open a folder that `save_pretrained` wrote. Raises LookalikeError for another kind of model or missing files."""
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    config = json.loads((folder / "config.json").read_text())
    _require_known(folder, config, allow_remote_code)
    model, report = AutoModel.from_pretrained(
        folder, use_safetensors=True, trust_remote_code=allow_remote_code, local_files_only=True,
        output_loading_info=True,
    )  # fmt: skip
    if report["missing_keys"]:
        raise CorruptArtifact(f"{folder}: the weights lack {sorted(report['missing_keys'])[:3]} and perhaps more")
    processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=allow_remote_code)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=allow_remote_code)
    length = int(model.config.text_config.max_position_embeddings)
    options: dict[str, Any] = {"max_length": length, "padding": True}
    if config["model_type"] == "siglip":  # it was trained on texts padded to full length, the padding not masked
        options |= {"padding": "max_length", "return_attention_mask": False}
    return HuggingFaceEncoder(model, processor, tokenizer, options, _space(folder, model), device)


def _require_known(folder: Path, config: dict[str, Any], allow_remote_code: bool) -> None:
    if "auto_map" in config and not allow_remote_code:
        raise LookalikeError(
            f"{folder} brings its own code ({', '.join(sorted(map(str, config['auto_map'].values())))}), which is not "
            f"executed. Use an open_clip copy of the model, or open it with allow_remote_code=True if you trust it"
        )
    if config.get("model_type") not in MODEL_TYPES and "auto_map" not in config:
        raise LookalikeError(
            f"{folder}: model_type {config.get('model_type')!r} is not supported; allowed: {', '.join(MODEL_TYPES)} "
            f"(SigLIP 2 in its fixed-resolution form), or open_clip's format"
        )
    for name, what in ((PREPROCESSOR, "the image processor"), ("tokenizer_config.json", "the tokenizer")):
        if not (folder / name).is_file():
            raise NotFound(f"{folder} lacks {name}: save {what} there too, with save_pretrained")


def _space(folder: Path, model: Any) -> EmbeddingSpace:
    config = model.config
    return EmbeddingSpace(
        encoder=folder.name,
        weights_sha256=sha256_of_files(folder, [*safetensors_files(folder), "config.json"]),
        preprocessing_sha256=sha256_of_files(folder, [PREPROCESSOR], "huggingface"),
        tokenizer_sha256=sha256_of_files(folder, tokenizer_files(folder), "huggingface"),
        dim=int(getattr(config, "projection_dim", 0) or config.text_config.hidden_size)
        if config.model_type == "clip"
        else int(getattr(config.text_config, "projection_size", None) or config.text_config.hidden_size),
    )
