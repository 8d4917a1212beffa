"""Bands and p-values of uniform ranks against enumeration and simulation; the power beforehand."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from ppl_vae.diagnostics import calibration_power, simulations_needed
from ppl_vae.diagnostics.calibration.power import rank_probabilities
from ppl_vae.diagnostics.calibration.uniformity import (
    Band,
    counts_below,
    holm,
    p_values,
    simultaneous_band,
)

BOUND = 4.5


def leaves(band, ranks, bins):
    below = counts_below(ranks, bins)
    out = (below < band.lower[:, None]) | (below > band.upper[:, None])
    return out.any(0)


def all_ranks(count, bins):
    return np.array(list(itertools.product(range(bins), repeat=count))).T


@pytest.mark.parametrize("tail", [0.004, 0.03, 0.2, 0.6])
@pytest.mark.parametrize(("count", "bins"), [(1, 2), (4, 4), (5, 3), (3, 7)])
def test_the_probability_to_leave_is_that_of_all_samples(count, bins, tail):
    ranks = all_ranks(count, bins)
    p = np.random.default_rng(0).dirichlet(np.ones(bins))
    band = Band.above(tail, count, bins)
    out = leaves(band, ranks, bins)
    assert band.probability_to_leave() == pytest.approx(out.mean(), rel=1e-10)
    assert band.probability_to_leave(p) == pytest.approx(p[ranks].prod(0)[out].sum(), rel=1e-10)


@pytest.mark.parametrize(("count", "bins"), [(1, 2), (4, 4), (5, 3)])
def test_a_p_value_is_the_share_of_samples_that_are_as_far_out(count, bins):
    ranks = all_ranks(count, bins)
    below = counts_below(ranks, bins)
    share = np.arange(1, bins)[:, None] / bins
    tails = stats.binom.cdf(below, count, share), stats.binom.sf(below - 1, count, share)
    least = np.minimum(*tails).min(0)
    expected = (least[:, None] <= least * (1 + 1e-9)).mean(0)
    np.testing.assert_allclose(p_values(ranks, bins), expected, rtol=1e-9)


@pytest.mark.parametrize(("count", "bins", "level"), [(1000, 128, 0.05), (50, 10, 0.2)])
def test_uniform_ranks_leave_the_band_as_often_as_it_says(count, bins, level):
    band = simultaneous_band(count, bins, level)
    exact = band.probability_to_leave()
    assert 0.85 * level < exact <= level
    num_samples = 4000
    ranks = np.random.default_rng(1).integers(bins, size=(count, num_samples))
    found = leaves(band, ranks, bins).mean()
    assert abs(found - exact) < BOUND * math.sqrt(exact * (1 - exact) / num_samples)


def test_a_p_value_is_below_the_level_just_where_the_ranks_leave_the_band():
    count, bins = 200, 32
    p = rank_probabilities(bins - 1, scale=0.85)
    ranks = np.random.default_rng(2).choice(bins, p=p, size=(count, 300))
    found = p_values(ranks, bins)
    for level in (0.5, 0.05, 0.01):
        out = leaves(simultaneous_band(count, bins, level), ranks, bins)
        assert 0 < out.sum() < len(out)
        np.testing.assert_array_equal(found <= level, out)


def test_very_small_p_values_keep_their_digits():
    count, bins = 40, 8
    # Nothing is as far out as all ranks at one end.
    ends = p_values(np.zeros((count, 1), dtype=int), bins)
    assert ends[0] == pytest.approx(2 * bins**-count, rel=1e-9)


def test_holm():
    found = holm(np.array([0.01, 0.04, 0.03, 0.6]))
    np.testing.assert_allclose(found, [0.04, 0.09, 0.09, 0.6])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1.0, 1.0])


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1.2, 0.0), (0.3, -0.5), (4.0, 1.0)])
def test_rank_probabilities(scale, shift):
    found = rank_probabilities(3, scale=scale, shift=shift)
    u = stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    p = stats.norm.cdf((u - shift) / scale)
    np.testing.assert_allclose(
        found, stats.binom.pmf(np.arange(4)[:, None], 3, p).mean(1), rtol=1e-4
    )


def test_power():
    assert calibration_power() == pytest.approx(0.05, rel=0.02)
    assert calibration_power(num_dimensions=10) == pytest.approx(0.005, rel=0.05)
    powers = [calibration_power(1.1, num_simulations=n) for n in (100, 1000, 3000)]
    assert powers[0] < 0.15 < 0.7 < powers[1] < 0.99 < powers[2]
    assert calibration_power(1.1) > calibration_power(1.1, num_draws=15)
    assert calibration_power(shift=0.2) == pytest.approx(calibration_power(shift=-0.2))
    needed = simulations_needed(1.2, num_draws=31)
    assert calibration_power(1.2, num_simulations=needed, num_draws=31) >= 0.9
    assert calibration_power(1.2, num_simulations=int(0.9 * needed), num_draws=31) < 0.9


@pytest.mark.parametrize(
    ("function", "options", "error", "message"),
    [
        (calibration_power, {"scale": 0.0}, ValueError, "scale finite and above 0"),
        (calibration_power, {"shift": math.inf}, ValueError, "shift finite"),
        (calibration_power, {"shift": "1"}, TypeError, "shift as a number"),
        (calibration_power, {"num_simulations": 1}, ValueError, "num_simulations of at least 2"),
        (calibration_power, {"num_draws": 0}, ValueError, "num_draws of at least 1"),
        (calibration_power, {"num_dimensions": 1.0}, TypeError, "num_dimensions as an int"),
        (calibration_power, {"level": 1.0}, ValueError, "level below 1"),
        (simulations_needed, {"scale": 1.2, "power": 1.0}, ValueError, "power above level"),
        (simulations_needed, {"num_draws": 3}, ValueError, "Ask for a larger error"),
    ],
)
def test_bad_input(function, options, error, message):
    with pytest.raises(error, match=message):
        function(**options)
