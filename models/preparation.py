"""Brings any picture to the square that the image tower takes: longer side to `pixels`, centred on white.

One function for training data, batch jobs and queries, so that all of them see the same pixels.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lookalike.contracts.encoder import Picture
from lookalike.contracts.errors import LookalikeError

METHOD = "fit-pad-white/pillow-bilinear-antialias/v1"
"""Part of the preprocessing fingerprint: any change of the computation below needs a new name here."""


def require_picture(picture: Picture) -> None:
    """Raise LookalikeError unless `picture` is uint8 of shape (height, width, 3) with at least one pixel."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise LookalikeError(
            f"a picture must be uint8 of shape (height, width, 3) with at least one pixel, got {picture.dtype} "
            f"{picture.shape}; decode it with lookalike.catalogue.intake.decode_picture"
        )


def fit_square(picture: Picture, pixels: int) -> NDArray[np.uint8]:
    """uint8 RGB, shape (height, width, 3) of any size from 1 x 1 -> uint8, shape (pixels, pixels, 3)."""
    require_picture(picture)
    return fit_image(Image.fromarray(picture), pixels, (255, 255, 255))


def fit_image(image: Image.Image, pixels: int, ground: tuple[int, ...]) -> NDArray[np.uint8]:
    """The same for a Pillow image of any mode whose bands match `ground`; shape (pixels, pixels, bands)."""
    scale = pixels / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    resized = image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BILINEAR)
    if (width, height) == (pixels, pixels):
        return np.array(resized)
    square = np.empty((pixels, pixels, len(ground)), dtype=np.uint8)
    square[:] = ground
    top, left = (pixels - height) // 2, (pixels - width) // 2
    square[top : top + height, left : left + width] = np.asarray(resized)
    return square


def not_too_long(picture: Picture, ratio: int = 64) -> Image.Image:
    """A Pillow image for a foreign transform, its longer side at most `ratio` times the shorter.

    Those transforms scale the SHORTER side up to the model's input: a 1 x 5000 strip would become a gigapixel picture.
    """
    image = Image.fromarray(picture)
    limit = min(image.size) * ratio
    return image.resize((min(image.width, limit), min(image.height, limit))) if max(image.size) > limit else image
