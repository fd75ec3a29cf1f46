"""The two towers of lookalike-mini: a small residual net for pictures, a context-aware bag of tokens for texts.

Both are chosen for one CPU core: dense 3 x 3 convolutions are what oneDNN does best, and a table look-up with one
convolution over neighbours costs microseconds where a transformer costs milliseconds.
"""

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

PICTURE_MEAN = 0.5
PICTURE_DEVIATION = 0.25


class TowerSpec(BaseModel):
    """Shapes of both towers; stored in encoder.json, so that the weights can be read without the training config."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int = Field(default=256, ge=2, description="dimension of the common space")
    pixels: int = Field(default=64, ge=16, description="side of the square that a picture is brought to")
    stem: int = Field(default=32, ge=1)
    widths: tuple[int, ...] = (32, 64, 128, 256)
    depths: tuple[int, ...] = (1, 1, 2, 2)
    vocabulary: int = Field(default=30_522, ge=2)
    token_dim: int = Field(default=192, ge=1)
    text_hidden: int = Field(default=512, ge=1)
    max_tokens: int = Field(default=64, ge=1)


class ResidualBlock(nn.Module):
    """Basic block of He et al. (2016) with the average-pooled shortcut of He et al. (2019, "ResNet-D")."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        nn.init.zeros_(self.second_norm.weight)  # each block starts as the identity
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
            self.shortcut = nn.Sequential(pool, nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(inner)) + self.shortcut(x))


class ImageTower(nn.Module):
    """Pictures, uint8 or float 0..255, shape (n, 3, pixels, pixels) -> unit vectors, shape (n, dim)."""

    def __init__(self, spec: TowerSpec) -> None:
        super().__init__()
        if len(spec.widths) != len(spec.depths):
            raise ValueError(f"widths {spec.widths} and depths {spec.depths} must have the same length")
        self.stem = nn.Conv2d(3, spec.stem, 4, 2, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(spec.stem)
        blocks, inputs = [], spec.stem
        for stage, (width, depth) in enumerate(zip(spec.widths, spec.depths, strict=True)):
            for position in range(depth):
                blocks.append(ResidualBlock(inputs, width, 2 if stage > 0 and position == 0 else 1))
                inputs = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(2 * inputs, spec.dim)

    def forward(self, pictures: Tensor) -> Tensor:
        x = (pictures.float() / 255.0 - PICTURE_MEAN) / PICTURE_DEVIATION
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.blocks(F.relu(self.stem_norm(self.stem(x))))
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)
        return F.normalize(self.head(pooled).float(), dim=1)


class TextTower(nn.Module):
    """Token numbers, shape (n, length), padded with -1 -> unit vectors, shape (n, dim).

    Static token vectors in the manner of model2vec (Tulkens and van Dongen, 2024); a width-3 convolution lets a token
    see its neighbours ("hot dog" is no dog); the mean goes through a linear map plus a small residual network.
    """

    def __init__(self, spec: TowerSpec) -> None:
        super().__init__()
        self.tokens = nn.Embedding(spec.vocabulary, spec.token_dim)
        self.context = nn.Conv1d(spec.token_dim, spec.token_dim, 3, padding=1)
        self.linear = nn.Linear(spec.token_dim, spec.dim, bias=False)
        self.widen = nn.Linear(spec.token_dim, spec.text_hidden)
        self.narrow = nn.Linear(spec.text_hidden, spec.dim)
        nn.init.zeros_(self.context.weight)
        nn.init.zeros_(self.narrow.weight)

    def pool(self, tokens: Tensor) -> Tensor:
        """Mean of the token vectors in context, brought to length sqrt(token_dim), shape (n, token_dim)."""
        present = (tokens >= 0).unsqueeze(2).float()
        vectors = self.tokens(tokens.clamp(min=0)) * present
        vectors = vectors + F.gelu(self.context(vectors.transpose(1, 2)).transpose(1, 2)) * present
        mean = vectors.sum(1) / present.sum(1).clamp(min=1.0)
        return F.normalize(mean, dim=1) * mean.shape[1] ** 0.5

    def forward(self, tokens: Tensor) -> Tensor:
        pooled = self.pool(tokens)
        return F.normalize(self.linear(pooled) + self.narrow(F.gelu(self.widen(pooled))), dim=1)


class DualEncoder(nn.Module):
    """Both towers and the two learned temperatures (CLIP's logit scale; Radford et al., 2021), as logarithms."""

    def __init__(self, spec: TowerSpec) -> None:
        super().__init__()
        self.spec = spec
        self.image = ImageTower(spec)
        self.text = TextTower(spec)
        self.picture_scale = nn.Parameter(torch.tensor(2.7))
        self.text_scale = nn.Parameter(torch.tensor(2.7))
