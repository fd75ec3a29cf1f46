"""Augmentation of a whole batch at once with torch operations: one affine resampling, then colour, then background.

Works on premultiplied RGBA, so that a moved picture leaves no dark fringe and the background can be any colour.
All randomness comes from one generator: the same seed gives the same pictures.
"""

import math

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Generator, Tensor


class Augmentation(BaseModel):
    """Ranges and probabilities of each change. All zero: the picture centred on white."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: tuple[float, float] = Field(default=(0.7, 1.1), description="size of the picture in the frame")
    stretch: float = Field(default=0.1, ge=0, lt=1, description="largest relative change of the aspect ratio")
    rotation_degrees: float = Field(default=15.0, ge=0)
    shift: float = Field(default=0.1, ge=0, description="largest shift, as a fraction of the frame")
    flip: float = Field(default=0.15, ge=0, le=1)
    grey: float = Field(default=0.1, ge=0, le=1)
    hue_degrees: float = Field(default=20.0, ge=0)
    gain: float = Field(default=0.25, ge=0, lt=1, description="largest relative change of contrast and saturation")
    brightness: float = Field(default=0.1, ge=0, description="largest change, as a fraction of full white")
    background: float = Field(default=0.4, ge=0, le=1, description="share of pictures on a random colour")


def _uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    return torch.rand(count, generator=generator) * (high - low) + low


def _chance(count: int, probability: float, generator: Generator) -> Tensor:
    return torch.rand(count, generator=generator) < probability


def affine_matrices(count: int, config: Augmentation, generator: Generator) -> Tensor:
    """Output-to-input maps for `F.affine_grid`, shape (count, 2, 3)."""
    size = _uniform(count, *config.scale, generator)
    stretch = 1.0 + _uniform(count, -config.stretch, config.stretch, generator)
    angle = _uniform(count, -config.rotation_degrees, config.rotation_degrees, generator) * math.pi / 180.0
    mirror = 1.0 - 2.0 * _chance(count, config.flip, generator).float()
    across, down = size * stretch, size / stretch
    matrix = torch.stack(
        [
            torch.stack([angle.cos() * mirror / across, angle.sin() * mirror / across], dim=1),
            torch.stack([-angle.sin() / down, angle.cos() / down], dim=1),
        ],
        dim=1,
    )
    shift = torch.stack([_uniform(count, -2 * config.shift, 2 * config.shift, generator) for _ in range(2)], dim=1)
    return torch.cat([matrix, -(matrix @ shift.unsqueeze(2))], dim=2)


def _luminance(colour: Tensor) -> Tensor:
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (colour * weights).sum(1, keepdim=True)


def _hue_matrices(angles: Tensor) -> Tensor:
    """Rotation about the grey axis, shape (n, 3, 3) (Rodrigues' formula with axis (1, 1, 1) / sqrt 3)."""
    cos, sin = angles.cos().view(-1, 1, 1), angles.sin().view(-1, 1, 1)
    axis = torch.full((3, 3), 1.0 / 3.0)
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3.0)
    return cos * torch.eye(3) + (1.0 - cos) * axis + sin * cross


def _change_colour(colour: Tensor, alpha: Tensor, config: Augmentation, generator: Generator) -> Tensor:
    """Hue, saturation, contrast, brightness and grey of premultiplied colours."""
    count = len(colour)
    turn = _hue_matrices(_uniform(count, -config.hue_degrees, config.hue_degrees, generator) * math.pi / 180.0)
    colour = torch.einsum("nij,njhw->nihw", turn, colour)
    saturation = 1.0 + _uniform(count, -config.gain, config.gain, generator).view(-1, 1, 1, 1)
    saturation = torch.where(_chance(count, config.grey, generator).view(-1, 1, 1, 1), 0.0, saturation)
    grey = _luminance(colour)
    colour = grey + (colour - grey) * saturation
    contrast = 1.0 + _uniform(count, -config.gain, config.gain, generator).view(-1, 1, 1, 1)
    lift = _uniform(count, -config.brightness, config.brightness, generator).view(-1, 1, 1, 1)
    return torch.minimum((colour * contrast + lift * alpha).clamp(min=0.0), alpha)


def augment(pictures: Tensor, pixels: int, config: Augmentation, generator: Generator) -> Tensor:
    """uint8 RGBA with straight alpha, shape (n, 4, side, side) -> float RGB 0..255, shape (n, 3, pixels, pixels)."""
    count = len(pictures)
    values = pictures.float() / 255.0
    values = torch.cat([values[:, :3] * values[:, 3:], values[:, 3:]], dim=1)
    grid = F.affine_grid(affine_matrices(count, config, generator), [count, 4, pixels, pixels], align_corners=False)
    moved = F.grid_sample(values, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    alpha = moved[:, 3:].clamp(0.0, 1.0)
    colour = _change_colour(moved[:, :3], alpha, config, generator)
    ground = torch.rand(count, 3, 1, 1, generator=generator)
    ground = torch.where(_chance(count, config.background, generator).view(-1, 1, 1, 1), ground, 1.0)
    return (colour + ground * (1.0 - alpha)) * 255.0
