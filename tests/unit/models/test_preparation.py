import numpy as np
import pytest

from lookalike.contracts.errors import LookalikeError
from models.preparation import fit_square, not_too_long


def test_a_wide_picture_is_padded_with_white_above_and_below():
    square = fit_square(np.zeros((20, 40, 3), np.uint8), 64)
    assert square.shape == (64, 64, 3)
    assert (square[:16] == 255).all() and (square[48:] == 255).all() and (square[16:48] == 0).all()


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 5000, 3), (5000, 1, 3), (63, 65, 3), (64, 64, 3)])
def test_any_shape_gives_the_square(shape):
    square = fit_square(np.full(shape, 7, np.uint8), 64)
    assert square.shape == (64, 64, 3) and square.dtype == np.uint8
    assert (square == 7).all(axis=2).any()


def test_shrinking_averages_instead_of_skipping():
    stripes = np.zeros((640, 640, 3), np.uint8)
    stripes[:, ::2] = 255
    inner = fit_square(stripes, 64)[4:-4, 4:-4].astype(int)
    assert abs(inner - 127).max() <= 3


@pytest.mark.parametrize(
    "bad",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
)
def test_what_is_no_picture_is_refused_with_its_shape(bad):
    with pytest.raises(LookalikeError, match="uint8 of shape"):
        fit_square(bad, 64)


def test_an_extreme_strip_is_squeezed_before_a_foreign_transform():
    assert not_too_long(np.zeros((1, 5000, 3), np.uint8)).size == (64, 1)
    assert not_too_long(np.zeros((100, 5000, 3), np.uint8)).size == (5000, 100)
