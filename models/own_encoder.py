"""lookalike-mini as an Encoder: reads encoder.json, model.safetensors and tokenizer.json, nothing else.

Weights are stored as float16 and computed with as float32; each convolution absorbs its batch normalisation when the
encoder is opened, which saves a third of the time on one core.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lookalike.contracts.encoder import Picture, Prepared
from lookalike.contracts.errors import CorruptArtifact
from lookalike.contracts.space import EmbeddingSpace
from models.fingerprints import sha256_of_files
from models.preparation import METHOD, fit_square
from models.tokens import TextTokenizer
from models.torch_encoder import TorchEncoder
from models.towers import DualEncoder, TowerSpec

KIND = "lookalike-mini"
DESCRIPTION, WEIGHTS, TOKENIZER = "encoder.json", "model.safetensors", "tokenizer.json"


class OwnEncoder(TorchEncoder):
    """The encoder that this repository trains."""

    def __init__(
        self, model: DualEncoder, tokenizer: TextTokenizer, space: EmbeddingSpace, device: torch.device
    ) -> None:
        super().__init__(space, device)
        self._pixels = model.spec.pixels
        self._model = _fused(model).to(device)
        self._tokenizer = tokenizer

    def prepare(self, picture: Picture) -> Prepared:
        """uint8, shape (pixels, pixels, 3)."""
        return fit_square(picture, self._pixels)

    def _encode_picture_batch(self, batch: Tensor) -> Tensor:
        return self._model.image(batch.permute(0, 3, 1, 2))

    def _encode_text_batch(self, texts: Sequence[str]) -> Tensor:
        return self._model.text(self._tokenizer(texts).to(self._device))


def open_own(folder: Path, device: torch.device) -> OwnEncoder:
    """Open a folder that `models.export` wrote. Raises CorruptArtifact when its parts do not fit together."""
    from tokenizers import Tokenizer

    description = json.loads((folder / DESCRIPTION).read_text())
    try:
        spec = TowerSpec.model_validate(description["towers"])
        model = DualEncoder(spec)
        model.load_state_dict({name: value.float() for name, value in load_file(folder / WEIGHTS).items()})
    except (KeyError, ValidationError, RuntimeError) as error:
        raise CorruptArtifact(f"{folder}: {WEIGHTS} and {DESCRIPTION} do not fit together: {error}") from error
    tokenizer = TextTokenizer(Tokenizer.from_file(str(folder / TOKENIZER)), spec.max_tokens)
    return OwnEncoder(model.eval(), tokenizer, own_space(folder, description["name"], spec), device)


def own_space(folder: Path, name: str, spec: TowerSpec) -> EmbeddingSpace:
    """The space of a folder: weights with the towers' shapes, preparation, tokenizer."""
    return EmbeddingSpace(
        encoder=name,
        weights_sha256=sha256_of_files(folder, [WEIGHTS], spec.model_dump_json()),
        preprocessing_sha256=sha256_of_files(folder, [], f"{METHOD}/{spec.pixels}"),
        tokenizer_sha256=sha256_of_files(folder, [TOKENIZER], f"max_tokens={spec.max_tokens}"),
        dim=spec.dim,
    )


def _fused(model: DualEncoder) -> DualEncoder:
    """Absorb every batch normalisation into the convolution before it."""
    tower: Any = model.image
    tower.stem, tower.stem_norm = fuse_conv_bn_eval(tower.stem, tower.stem_norm), nn.Identity()
    for block in tower.blocks:
        block.first, block.first_norm = fuse_conv_bn_eval(block.first, block.first_norm), nn.Identity()
        block.second, block.second_norm = fuse_conv_bn_eval(block.second, block.second_norm), nn.Identity()
        if isinstance(block.shortcut, nn.Sequential):
            convolution: Any = block.shortcut[1]
            norm: Any = block.shortcut[2]
            block.shortcut = nn.Sequential(block.shortcut[0], fuse_conv_bn_eval(convolution, norm))
    return model.to(memory_format=torch.channels_last)
