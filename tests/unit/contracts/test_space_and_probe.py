"""Two spaces that differ in any one property are different; an encoder that drifts fails its probe."""

import numpy as np
import pytest

from lookalike.contracts.errors import SpaceMismatch
from lookalike.contracts.probe import Probe
from lookalike.contracts.space import EmbeddingSpace

BASE = {
    "encoder": "e", "weights_sha256": "a" * 64, "preprocessing_sha256": "b" * 64, "tokenizer_sha256": "c" * 64,
    "dim": 4,
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"encoder": "f"},
        {"weights_sha256": "d" * 64},
        {"preprocessing_sha256": "d" * 64},
        {"tokenizer_sha256": "d" * 64},
        {"dim": 5},
    ],
)
def test_any_difference_changes_the_fingerprint(change):
    assert EmbeddingSpace(**BASE).fingerprint != EmbeddingSpace(**(BASE | change)).fingerprint


def test_the_fingerprint_is_stable_across_releases_of_this_code():
    # Written into every stored vector: a change of this value would orphan all of them.
    assert EmbeddingSpace(**BASE).fingerprint == "1741ffdd679cbacc"


def test_a_mismatch_names_both_sides():
    space = EmbeddingSpace(**BASE)
    space.require(space.fingerprint, "index")
    with pytest.raises(SpaceMismatch, match=rf"index /x.*0123.*{space.fingerprint}"):
        space.require("0123", "index /x")


class TurningEncoder:
    """Gives unit vectors turned by `angle` from the recorded direction."""

    def __init__(self, angle):
        self.angle, self.space = angle, EmbeddingSpace(**BASE)

    def encode_pictures(self, pictures):
        return np.tile(np.float32([np.cos(self.angle), np.sin(self.angle), 0, 0]), (len(pictures), 1))

    encode_texts = encode_pictures


@pytest.mark.parametrize(("angle", "passes"), [(0.0, True), (0.03, True), (0.06, False), (float("nan"), False)])
def test_the_probe_lets_pass_only_the_same_vectors(angle, passes):
    recorded = np.tile(np.float32([1, 0, 0, 0]), (16, 1))
    probe = Probe([np.zeros((2, 2, 3), np.uint8)] * 16, ["t"] * 16, recorded, recorded)
    if passes:
        assert probe.require(TurningEncoder(angle)) == pytest.approx(np.cos(angle))
    else:
        with pytest.raises(SpaceMismatch, match="does not reproduce its probe"):
            probe.require(TurningEncoder(angle))
