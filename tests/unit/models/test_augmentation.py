import numpy as np
import pytest
import torch

from models.augmentation import Augmentation, affine_matrices, augment

NOTHING = Augmentation(
    scale=(1, 1), stretch=0, rotation_degrees=0, shift=0, flip=0, grey=0, hue_degrees=0, gain=0, brightness=0,
    background=0,
)  # fmt: skip


def pictures(count: int = 3, side: int = 16) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 4, side, side), dtype=np.uint8))


def augmented(config: Augmentation, seed: int = 0, pixels: int = 16) -> torch.Tensor:
    return augment(pictures(), pixels, config, torch.Generator().manual_seed(seed))


def test_no_change_is_the_picture_on_white():
    given = pictures().double()
    alpha = given[:, 3:] / 255
    expected = given[:, :3] * alpha + 255 * (1 - alpha)
    assert torch.allclose(augmented(NOTHING).double(), expected, atol=0.05)


def test_flip_mirrors_left_and_right_only():
    plain, flipped = augmented(NOTHING), augmented(NOTHING.model_copy(update={"flip": 1.0}))
    assert torch.allclose(flipped, plain.flip(3), atol=0.05)


def test_grey_makes_all_channels_equal():
    grey = augmented(NOTHING.model_copy(update={"grey": 1.0}))
    assert float((grey[:, 0] - grey[:, 2]).abs().max()) < 0.05


def test_smaller_scale_shrinks_towards_the_centre():
    opaque = torch.zeros(1, 4, 32, 32, dtype=torch.uint8)
    opaque[:, 3] = 255  # a black square on white
    half = augment(opaque, 32, NOTHING.model_copy(update={"scale": (0.5, 0.5)}), torch.Generator().manual_seed(0))
    assert float(half[0, 0, 16, 16]) < 1 and float(half[0, 0, 2, 2]) > 254
    assert float((half[0, 0] < 128).float().mean()) == pytest.approx(0.25, abs=0.03)


def test_shift_moves_by_a_fraction_of_the_frame():
    matrices = affine_matrices(500, NOTHING.model_copy(update={"shift": 0.1}), torch.Generator().manual_seed(1))
    assert float(matrices[:, :, 2].abs().max()) <= 0.2
    assert float(matrices[:, :, 2].abs().max()) > 0.18


def test_default_stays_in_range_and_follows_the_seed():
    first, again, other = augmented(Augmentation()), augmented(Augmentation()), augmented(Augmentation(), seed=1)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert float(first.min()) >= 0 and float(first.max()) <= 255.01
    assert augmented(Augmentation(), pixels=24).shape == (3, 3, 24, 24)
