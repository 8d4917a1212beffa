"""How many simulations it takes to find that a guide is wrong by so much."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from ppl_vae import checks
from ppl_vae.diagnostics.calibration.uniformity import Array, simultaneous_band

LEVEL = 0.05
_REACH = 9.0  # standard deviations; beyond is less than 1e-18
_POINTS = 4001


def rank_probabilities(num_draws: int, *, scale: float = 1.0, shift: float = 0.0) -> Array:
    """Return the probabilities of the ranks 0 to `num_draws`, (num_draws + 1,).

    The posterior is Normal(0, 1) and the guide Normal(shift, scale). Given the true latent, the
    draws below it are Binomial; this is integrated over the latent by the trapezoidal rule.
    """
    # In the guide's own unit v, where the true latent is scale * v + shift.
    v = (np.linspace(-_REACH, _REACH, _POINTS) - shift) / scale
    density = np.exp(-0.5 * (scale * v + shift) ** 2)
    ranks = np.arange(num_draws + 1)[:, np.newaxis]
    ways = -special.betaln(ranks + 1, num_draws - ranks + 1) - math.log(num_draws + 1)
    log_p = ways + ranks * special.log_ndtr(v) + (num_draws - ranks) * special.log_ndtr(-v)
    found = np.exp(log_p) @ density
    return found / found.sum()


@checks.own_words()
def calibration_power(
    scale: float = 1.0,
    shift: float = 0.0,
    *,
    num_simulations: int = 1000,
    num_draws: int = 127,
    num_dimensions: int = 1,
    level: float = LEVEL,
) -> float:
    """Return the probability that `calibration` finds a latent dimension to be wrong.

    The posterior of this dimension is Normal, and the guide is a Normal with `scale` times its
    standard deviation and a mean that is off by `shift` of its standard deviations.

    Args:
        scale: of the guide over that of the posterior, above 0.
        shift: of the mean, finite.
        num_simulations: of `calibration`, at least 2.
        num_draws: of `calibration`, at least 1.
        num_dimensions: that are tested together; the level of each is `level` over their number.
        level: probability to find a guide wrong that is right, between 0 and 1.

    Returns:
        From `level` over `num_dimensions`, about, to 1; exact, by the same recursion as the
        p-value.

    Raises:
        TypeError: a count is no int, or another argument no number.
        ValueError: a number out of range.

    Source:
        Given the latent, a rank is Binomial; over the posterior, all ranks are multinomial.

    Example:
        >>> from ppl_vae.diagnostics import calibration_power
        >>> [round(calibration_power(1.1, num_simulations=n), 2) for n in (1000, 5000)]
        [0.74, 1.0]
    """
    _check(scale, shift, num_draws, num_dimensions, level)
    checks.count("num_simulations", num_simulations, minimum=2)
    band = simultaneous_band(num_simulations, num_draws + 1, level / num_dimensions)
    return band.probability_to_leave(rank_probabilities(num_draws, scale=scale, shift=shift))


@checks.own_words()
def simulations_needed(
    scale: float = 1.0,
    shift: float = 0.0,
    *,
    power: float = 0.9,
    num_draws: int = 127,
    num_dimensions: int = 1,
    level: float = LEVEL,
) -> int:
    """Return how many simulations find a latent dimension to be wrong with probability `power`.

    Args:
        scale: as for `calibration_power`.
        shift: likewise; not 0 if `scale` is 1.
        power: below 1, above `level`.
        num_draws: as for `calibration_power`.
        num_dimensions: likewise.
        level: likewise.

    Returns:
        `num_simulations` for `calibration`, of two digits, rounded up.

    Raises:
        TypeError: as `calibration_power`.
        ValueError: a number out of range, or an error that 99,000 simulations do not find.

    Example:
        >>> from ppl_vae.diagnostics import simulations_needed
        >>> simulations_needed(scale=1.1)
        1500
    """
    _check(scale, shift, num_draws, num_dimensions, level)
    if not level < checks.positive_number("power", power) < 1:
        raise checks.value_error(f"power above level {level:g}, below 1", f"{power}", "Take 0.9.")
    steps = [digits * 10**places for places in (1, 2, 3, 4) for digits in range(10, 100)]
    low, high = -1, len(steps)
    while high - low > 1:
        middle = (low + high) // 2
        found = calibration_power(
            scale,
            shift,
            num_simulations=steps[middle] // 10,
            num_draws=num_draws,
            num_dimensions=num_dimensions,
            level=level,
        )
        low, high = (low, middle) if found >= power else (middle, high)
    if high == len(steps):
        raise checks.value_error(
            "a scale or a shift that simulations can find",
            f"scale {scale:g} and shift {shift:g}, not found by {steps[-1] // 10}",
            "Ask for a larger error.",
        )
    return steps[high] // 10


def _check(scale: float, shift: float, num_draws: int, num_dimensions: int, level: float) -> None:
    checks.positive_number("scale", scale)
    if isinstance(shift, bool) or not isinstance(shift, (int, float)):
        raise checks.type_error("shift as a number", type(shift).__name__, "Pass a Python float.")
    if not math.isfinite(shift):
        raise checks.value_error("shift finite", repr(shift), "Choose a finite number.")
    checks.count("num_draws", num_draws)
    checks.count("num_dimensions", num_dimensions)
    check_level(level)


def check_level(level: object) -> float:
    """Return `level`; raise unless it is a number between 0 and 1."""
    found = checks.positive_number("level", level)
    if found >= 1:
        raise checks.value_error("level below 1", f"{level}", "Choose 0.05.")
    return found
