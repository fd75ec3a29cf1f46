"""Intervals against the normal approximation, their coverage in repeated trials, and the effect of clusters."""

import math

import numpy as np
import pytest

from lookalike.evaluation.bootstrap import mean_interval, paired_difference


def test_interval_matches_the_normal_approximation():
    values = np.random.default_rng(0).normal(3.0, 2.0, size=2_000)
    found = mean_interval(values, seed=1)
    half = 1.96 * values.std(ddof=1) / math.sqrt(len(values))
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)
    assert (found.n, found.clusters) == (2_000, 2_000)


def test_interval_covers_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(4)
    covered = 0
    for trial in range(200):
        found = mean_interval(rng.random(80) < 0.4, seed=trial, resamples=400)
        covered += found.low <= 0.4 <= found.high
    assert 0.90 <= covered / 200 <= 0.99


def test_copies_within_a_concept_do_not_narrow_the_interval():
    concepts = np.random.default_rng(5).random(100)
    single = mean_interval(concepts, seed=2)
    copied = mean_interval(np.repeat(concepts, 9), np.repeat(np.arange(100), 9), seed=2)
    naive = mean_interval(np.repeat(concepts, 9), seed=2)
    assert copied.high - copied.low == pytest.approx(single.high - single.low)
    assert naive.high - naive.low < 0.5 * (copied.high - copied.low)
    assert (copied.n, copied.clusters) == (900, 100)


def test_pairing_finds_a_small_difference_that_the_single_intervals_hide():
    rng = np.random.default_rng(6)
    base = rng.random(400)
    better = base + 0.02 + 0.01 * rng.normal(size=400)
    found = paired_difference(better, base, seed=3)
    assert found.value == pytest.approx((better - base).mean())
    assert 0.015 < found.low < found.value < found.high < 0.025
    assert mean_interval(better, seed=3).low < mean_interval(base, seed=3).high


def test_the_same_seed_gives_the_same_interval_and_blocks_do_not_matter(monkeypatch):
    values = np.random.default_rng(7).random(50)
    whole = mean_interval(values, seed=9)
    monkeypatch.setattr("lookalike.evaluation.bootstrap._DRAWS_PER_BLOCK", 333)
    assert mean_interval(values, seed=9) == whole
    assert mean_interval(values, seed=10) != whole


def test_a_lost_measurement_is_not_averaged_away():
    found = mean_interval([0.5, math.nan, 0.7], seed=1)
    assert all(math.isnan(figure) for figure in (found.value, found.low, found.high))
    assert found.n == 3
    assert math.isnan(mean_interval([], seed=1).value)


def test_a_pairing_of_different_queries_is_refused():
    with pytest.raises(ValueError, match="same queries"):
        paired_difference([1.0, 2.0], [1.0], seed=1)
