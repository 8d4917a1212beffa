"""The correction of Student's t for skewed draws keeps its level, measured."""

import numpy as np
import pytest
from scipy import stats

from ppl_vae.diagnostics.check.statistics import corrected, skewness

# Draws of mean zero, from Normal ones to such of an infinite variance.
DRAWS = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "exponential": lambda rng, shape: rng.exponential(size=shape) - 1,
    "chi-squared": lambda rng, shape: rng.chisquare(0.3, shape) / 0.3 - 1,
    "lognormal": lambda rng, shape: np.exp(rng.standard_normal(shape) - 0.5) - 1,
    "wide lognormal": lambda rng, shape: np.exp(3 * rng.standard_normal(shape) - 4.5) - 1,
    "pareto": lambda rng, shape: rng.pareto(1.5, shape) - 2,
}
SETTINGS, CHECKS = 22, 1500


def p_values(name, count, *, correct):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(CHECKS):
        rows = DRAWS[name](rng, (SETTINGS, count))
        t = np.abs(rows.mean(1)) / (rows.std(1, ddof=1) / np.sqrt(count))
        t = corrected(t, skewness(rows), count) if correct else t
        found.append(2 * stats.t.sf(t, count - 1))
    return np.concatenate(found)


@pytest.mark.parametrize("count", [10, 80])
@pytest.mark.parametrize("name", DRAWS)
def test_the_level_is_kept(name, count):
    p = p_values(name, count, correct=True)
    for level in (1e-2, 1e-3, 1e-4):
        # Values of one check share their skewness: count each check once.
        false = (p.reshape(CHECKS, SETTINGS) < level).sum(1)
        error = max(false.std() / np.sqrt(CHECKS), 1 / CHECKS)
        assert false.mean() < SETTINGS * level + 4 * error


def test_it_is_needed():
    assert (p_values("lognormal", 10, correct=False) < 1e-4).mean() > 100 * 1e-4


def test_normal_draws_lose_little():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((SETTINGS, 80))
    assert corrected(np.array([6.0]), skewness(rows), 80)[0] > 5.0


def test_constants_have_no_skewness():
    assert skewness(np.ones((3, 10))) == 0.0
