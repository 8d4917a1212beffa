"""The Gaussian chain's two linear guides: their parameters and their exact ELBOs."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from ppl_vae.checks import Real, broadcastable, finite, floats, nonempty, positive
from ppl_vae.closed_forms.numerics.special import HALF_LOG_TWO_PI


class BottomUp(NamedTuple):
    """Parameters of the guide z1 ~ Normal(a x + a0, s1), z2 ~ Normal(b z1 + b0, s2)."""

    a: Real
    s1: Real
    b: Real
    s2: Real
    a0: Real = 0.0
    b0: Real = 0.0


class TopDown(NamedTuple):
    """Parameters of the guide z2 ~ Normal(c x + c0, s2), z1 ~ Normal(d z2 + e x + f, s1)."""

    c: Real
    s2: Real
    d: Real
    e: Real
    s1: Real
    c0: Real = 0.0
    f: Real = 0.0


def optimal_bottom_up() -> BottomUp:
    """Return the parameters at which the bottom-up guide is the posterior.

    ``z1 | x ~ Normal(2x/3, sqrt(2/3))``, ``z2 | z1 ~ Normal(z1/2, sqrt(1/2))``; x tells nothing
    about z2 once z1 is known.

    Returns:
        Python numbers, for ``elbo(x, guide="bottom-up", **optimal_bottom_up()._asdict())``.

    Source:
        `posterior`; conditionals of a bivariate Normal.

    Example:
        >>> round(optimal_bottom_up().a, 4)
        0.6667
    """
    return BottomUp(a=2 / 3, s1=math.sqrt(2 / 3), b=1 / 2, s2=math.sqrt(1 / 2))


def optimal_top_down() -> TopDown:
    """Return the parameters at which the top-down guide is the posterior.

    ``z2 | x ~ Normal(x/3, sqrt(2/3))``, ``z1 | z2, x ~ Normal((z2 + x)/2, sqrt(1/2))``.

    Returns:
        Python numbers, for ``elbo(x, guide="top-down", **optimal_top_down()._asdict())``.

    Source:
        `posterior`; conditionals of a bivariate Normal.

    Example:
        >>> round(optimal_top_down().c, 4)
        0.3333
    """
    return TopDown(c=1 / 3, s2=math.sqrt(2 / 3), d=1 / 2, e=1 / 2, s1=math.sqrt(1 / 2))


def elbo_bottom_up(
    x: Real, *, a: Real, s1: Real, b: Real, s2: Real, a0: Real = 0.0, b0: Real = 0.0
) -> Tensor:
    """Return the exact ELBO of z1 ~ Normal(a x + a0, s1), z2 ~ Normal(b z1 + b0, s2).

    ``1 - log(2 pi)/2 + log(s1 s2) - (E(x - z1)^2 + E(z1 - z2)^2 + E z2^2) / 2``, where with
    m1 = a x + a0, m2 = b m1 + b0: ``E(x - z1)^2 = (x - m1)^2 + s1^2``,
    ``E(z1 - z2)^2 = (m1 - m2)^2 + (1 - b)^2 s1^2 + s2^2``, ``E z2^2 = m2^2 + b^2 s1^2 + s2^2``.

    Args:
        x: data of any shape, finite.
        a: slope of z1's mean in x.
        s1: standard deviation of z1 given x, above 0.
        b: slope of z2's mean in z1.
        s2: standard deviation of z2 given z1, above 0.
        a0: intercept of z1's mean.
        b0: intercept of z2's mean.

    Returns:
        Per element, the common shape of all arguments, in nats.

    Raises:
        TypeError: an argument is neither a number nor a floating-point tensor.
        ValueError: empty data, a NaN or infinity, a scale not above 0, or shapes that do not
            broadcast.

    Source:
        Three standard Normal log densities of x - z1, z1 - z2 and z2 under the guide, whose
        entropy is 1 + log(2 pi) + log(s1 s2).

    Example:
        >>> elbo_bottom_up(torch.tensor([1.3]), a=0.6, s1=0.7, b=0.5, s2=0.8)
        tensor([-1.7936])
    """
    given = checked(x=x, a=a, a0=a0, s1=s1, b=b, b0=b0, s2=s2)
    x, a, a0, s1, b, b0, s2 = (t.double() for t in given)
    m1, slope = a * x + a0, 1 - b
    squares = (
        _second_moment((1 - a) * x - a0, s1)
        + _second_moment(slope * m1 - b0, slope * s1, s2)
        + _second_moment(b * m1 + b0, b * s1, s2)
    )
    return _from_moments(squares, s1, s2).to(given[0].dtype)


def elbo_top_down(
    x: Real, *, c: Real, s2: Real, d: Real, e: Real, s1: Real, c0: Real = 0.0, f: Real = 0.0
) -> Tensor:
    """Return the exact ELBO of z2 ~ Normal(c x + c0, s2), z1 ~ Normal(d z2 + e x + f, s1).

    ``1 - log(2 pi)/2 + log(s1 s2) - (E(x - z1)^2 + E(z1 - z2)^2 + E z2^2) / 2``, where with
    m2 = c x + c0, m1 = d m2 + e x + f: ``E(x - z1)^2 = (x - m1)^2 + d^2 s2^2 + s1^2``,
    ``E(z1 - z2)^2 = (m1 - m2)^2 + (d - 1)^2 s2^2 + s1^2``, ``E z2^2 = m2^2 + s2^2``.

    Args:
        x: data of any shape, finite.
        c: slope of z2's mean in x.
        s2: standard deviation of z2 given x, above 0.
        d: slope of z1's mean in z2.
        e: slope of z1's mean in x.
        s1: standard deviation of z1 given z2 and x, above 0.
        c0: intercept of z2's mean.
        f: intercept of z1's mean.

    Returns:
        Per element, the common shape of all arguments, in nats.

    Raises:
        TypeError: an argument is neither a number nor a floating-point tensor.
        ValueError: empty data, a NaN or infinity, a scale not above 0, or shapes that do not
            broadcast.

    Source:
        As `elbo_bottom_up`.

    Example:
        >>> elbo_top_down(torch.tensor([1.3]), c=0.3, s2=0.8, d=0.5, e=0.5, s1=0.7)
        tensor([-1.7518])
    """
    given = checked(x=x, c=c, c0=c0, s2=s2, d=d, e=e, f=f, s1=s1)
    x, c, c0, s2, d, e, f, s1 = (t.double() for t in given)
    m2, slope = c * x + c0, d - 1
    squares = (
        _second_moment((1 - e) * x - f - d * m2, d * s2, s1)
        + _second_moment(slope * m2 + e * x + f, slope * s2, s1)
        + _second_moment(m2, s2)
    )
    return _from_moments(squares, s1, s2).to(given[0].dtype)


def checked(**values: Real) -> tuple[Tensor, ...]:
    """Return the arguments as tensors of one dtype; s1 and s2 must be scales, the rest finite."""
    tensors = dict(zip(values, floats(**values), strict=True))
    for name, tensor in tensors.items():
        (positive if name in ("s1", "s2") else finite)(name, nonempty(name, tensor))
    broadcastable(**tensors)
    return tuple(tensors.values())


def _second_moment(mean: Tensor, *scales: Tensor) -> Tensor:
    """Return E y^2 of a Normal that is a sum of independent parts with these scales."""
    return mean.square() + sum(scale.square() for scale in scales)


def _from_moments(squares: Tensor, s1: Tensor, s2: Tensor) -> Tensor:
    return 1 - HALF_LOG_TWO_PI + s1.log() + s2.log() - 0.5 * squares
