"""One bit, and how noisy four estimators of its gradient are.

    b ~ Bernoulli(p),    p = sigmoid(t),    g = d/dt E[f(b)] = (f1 - f0) p (1 - p)

t is `logit`; f0 and f1 are the objective at 0 and 1. All are numbers or tensors that broadcast
against each other. Below, q = 1 - p, d = f1 - f0 and m = min(p, q). Everything is computed in
float64 and returned in the dtype of the arguments.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.checks import Real

__all__ = ["gradient", "gradient_variance"]


def gradient(logit: Real, f0: Real, f1: Real) -> Tensor:
    """Return the derivative of E[f(b)] by the logit: ``(f1 - f0) p (1 - p)``.

    Args:
        logit: of b = 1, finite.
        f0: the objective at b = 0, finite, in any unit (nats, for an ELBO).
        f1: likewise at b = 1.

    Returns:
        The broadcast shape, in the unit of f.

    Raises:
        TypeError: an argument is neither a number nor a floating-point tensor.
        ValueError: NaN or infinity, or shapes that do not broadcast.

    Source:
        E[f(b)] = f0 + d p, and dp/dt = p q.

    Example:
        >>> gradient(0.0, -3.0, 1.0).item()
        1.0
    """
    dtype, (t, low, high) = _finite(logit, f0, f1)
    return ((high - low) * t.sigmoid() * (-t).sigmoid()).to(dtype)


def gradient_variance(logit: Real, f0: Real, f1: Real, *, estimator: str) -> Tensor:
    """Return the variance of an estimate of `gradient`.

    ========================  ==========================  =========================================
    estimator                 evaluations of f            variance
    ========================  ==========================  =========================================
    ``score-function``        1                           ``p q (q f1 + p f0)^2``
    ``leave-one-out``         2, independent              ``(d^2/4) 2m(1-m) (1 - 2m(1-m))``
    ``disarm``                2, antithetic               ``(d^2/4) 2m (1-m)^2 (1-2m)``
    ``arm``                   2, antithetic               ``(2/3) d^2 (1/8 - (1/2-m)^3) - g^2``
    ========================  ==========================  =========================================

    f is held fixed: what depends on the logit itself, such as -log q(b), adds nothing to the mean.
    The mean of k independent estimates has the k-th part of the variance.

    Args:
        logit: of b = 1, finite.
        f0: the objective at b = 0, finite.
        f1: likewise at b = 1.
        estimator: one of the four names above.

    Returns:
        The broadcast shape, in the squared unit of f.

    Raises:
        TypeError: as `gradient`.
        ValueError: as `gradient`, and an unknown estimator.

    Source:
        Sums over the two states, and integrals over the uniform number behind an antithetic pair;
        the derivation is in the documentation. Estimators: Williams 1992; Kool, van Hoof and
        Welling, Buy 4 REINFORCE samples, 2019; Dong, Mnih and Tucker, DisARM, 2020,
        https://arxiv.org/abs/2006.10680; Yin and Zhou, ARM, 2019,
        https://arxiv.org/abs/1807.11143.

    Example:
        >>> p = torch.tensor(0.3, dtype=torch.float64)
        >>> f = {"f0": -3.0, "f1": 1.0}
        >>> round(gradient_variance(p.logit(), **f, estimator="score-function").item(), 4)
        0.0084
        >>> round(gradient_variance(p.logit(), **f, estimator="leave-one-out").item(), 4)
        0.9744
        >>> round(gradient_variance(p.logit(), **f, estimator="disarm").item(), 4)
        0.4704
    """
    checks.name("estimator", estimator, _VARIANCES)
    dtype, values = _finite(logit, f0, f1)
    return _VARIANCES[estimator](*values).to(dtype)


def _score_function(t: Tensor, low: Tensor, high: Tensor) -> Tensor:
    p, q = t.sigmoid(), (-t).sigmoid()
    return p * q * (q * high + p * low).square()


def _leave_one_out(t: Tensor, low: Tensor, high: Tensor) -> Tensor:
    p, q = t.sigmoid(), (-t).sigmoid()
    # 1 - 2 p q = p^2 + q^2, without a difference.
    return (high - low).square() / 2 * p * q * (p.square() + q.square())


def _disarm(t: Tensor, low: Tensor, high: Tensor) -> Tensor:
    rare, common = (-t.abs()).sigmoid(), t.abs().sigmoid()
    return (high - low).square() / 2 * rare * common.square() * (t.abs() / 2).tanh()


def _arm(t: Tensor, low: Tensor, high: Tensor) -> Tensor:
    m = (-t.abs()).sigmoid()
    # The formula in powers of m, as its terms cancel where m is small.
    return (high - low).square() * m * (0.5 - m * (2 - m * (8 / 3 - m)))


_VARIANCES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "score-function": _score_function,
    "leave-one-out": _leave_one_out,
    "disarm": _disarm,
    "arm": _arm,
}


def _finite(logit: Real, f0: Real, f1: Real) -> tuple[torch.dtype, tuple[Tensor, ...]]:
    """Check the input; return the dtype of the results, and the arguments in float64."""
    t, low, high = checks.floats(logit=logit, f0=f0, f1=f1)
    checks.broadcastable(logit=t, f0=low, f1=high)
    for name, value in {"logit": t, "f0": low, "f1": high}.items():
        checks.finite(name, value)
    return t.dtype, (t.double(), low.double(), high.double())
