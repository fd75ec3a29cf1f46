"""Whether generated vectors are searched as real ones: the measurement on vectors made here, and that it would tell."""

import json

import numpy as np
import pytest

pytestmark = pytest.mark.slow

ROWS, DIM = 4_000, 64
ALLOWED = 0.12
"""Of recall: a fit on few vectors is a rough one. Random vectors differ by several times as much."""
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def said(real, run, tmp_path_factory):
    out = tmp_path_factory.mktemp("match")
    given = ["--pictures", real / "pictures.npy", "--texts", real / "texts.npy", "--components", 12]
    told = run("mixture_match.py", *given, "--rows", ROWS, "--out", out)
    assert (out / "match.png").read_bytes().startswith(PNG)
    found = json.loads((out / "match.json").read_text())
    assert f"greatest difference of recall: {found['greatest difference']:.3f}" in told
    return found


def test_generated_vectors_are_searched_nearly_as_those_they_were_fitted_on(said):
    assert (said["rows"], said["dim"]) == (ROWS, DIM)
    curves = said["curves"]
    assert set(curves["real"]) == set(curves["made"]) and len(curves["real"]) == 6
    worst = max(
        abs(curves["made"][name][setting] - recall)
        for name, curve in curves["real"].items()
        for setting, recall in curve.items()
    )
    assert said["greatest difference"] == pytest.approx(worst) and worst <= ALLOWED
    name = "imbalance of lists"
    assert said["figures"]["made"][name] == pytest.approx(said["figures"]["real"][name], rel=0.1)


def test_vectors_that_lie_otherwise_are_told_apart(said, bench):
    random = np.random.default_rng(1)
    points = random.normal(size=(ROWS + 1_024, DIM)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    with bench("mixture_match") as (match,):
        other = match.Measured(points[:ROWS], dict.fromkeys(match.KINDS, points[ROWS:]))
    worst = max(
        abs(other.curves[name][int(setting)] - recall)
        for name, curve in said["curves"]["real"].items()
        for setting, recall in curve.items()
    )
    assert worst > 2 * ALLOWED


def test_a_measured_recall_is_that_of_brute_force(bench, judged):
    """Of a flat index's first ten, all are right; of rows drawn at random, hardly any."""
    random = np.random.default_rng(2)
    points = random.normal(size=(2_000 + 64, DIM)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    vectors, asked = points[:2_000], points[2_000:]
    with bench("mixture_fit") as (fit,):
        scores, rows = fit.nearest(vectors, asked, 10)
    assert judged(vectors, asked, rows).mean() == 1
    np.testing.assert_allclose(scores, np.sort(asked @ vectors.T, axis=1)[:, ::-1][:, :10], atol=1e-6)
