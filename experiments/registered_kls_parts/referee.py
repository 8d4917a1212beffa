"""KL divergences of one-dimensional distributions by numerical integration and by summation."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

STEP = 0.05
_T = np.arange(-4.5, 6.05, STEP)
# Double-exponential nodes of (0, 1/2), down to 1e-289, and their weights.
_U = 0.5 * special.expit(-np.pi * np.sinh(_T))
_W = STEP * 0.5 * np.pi * np.cosh(_T) * special.expit(np.pi * np.sinh(_T)) * 2 * _U


def by_quadrature(q: Any, p: Any) -> np.ndarray:  # noqa: ANN401
    """Return KL(q || p), (q's, p's), in nats, as an integral over the probabilities of q.

        KL(q || p) = integral over u in (0, 1) of log q(x) - log p(x),    x = q's quantile at u

    Where q has mass that p has not, it is infinite.

    Args:
        q: frozen as in ``scipy.stats``, with parameters (q's, 1).
        p: likewise, (p's, 1).
    """
    low, high = (edge[:, None] for edge in p.support())
    below, above = (np.reshape(edge, (-1, 1)) for edge in q.support())
    outside = (below < low.reshape(1, -1)) | (above > high.reshape(1, -1))
    result = np.zeros(outside.shape)
    with np.errstate(all="ignore"):
        for x in (q.ppf(_U), q.isf(_U)):
            inside = np.clip(x[:, None, :], low.reshape(1, -1, 1), high.reshape(1, -1, 1))
            ratio = q.logpdf(x)[:, None, :] - p.logpdf(inside)
            # Quantiles that round to an end of the support have no weight left, and no density.
            at_end = (inside == low.reshape(1, -1, 1)) | (inside == high.reshape(1, -1, 1))
            at_end = at_end | ~np.isfinite(q.logpdf(x))[:, None, :] | np.isinf(x)[:, None, :]
            unknown = np.isnan(ratio) | (np.isinf(ratio) & at_end)
            result += np.where(unknown, 0.0, ratio * _W).sum(-1)
    return np.where(outside, np.inf, result)


def by_summation(q: Any, p: Any) -> np.ndarray:  # noqa: ANN401
    """Return KL(q || p), (q's, p's), in nats, as a sum over the values of q that may occur."""
    with np.errstate(all="ignore"):
        last = 2 * q.ppf(1 - 1e-15) + 20
        values = np.arange(0, int(np.max(last[np.isfinite(last)])) + 2)
        log_q = q.logpmf(values)[:, None, :]
        mass = np.exp(log_q)
        return np.where(mass > 0, mass * (log_q - p.logpmf(values)[None]), 0.0).sum(-1)


def cauchy_kl(q: Any, p: Any) -> np.ndarray:  # noqa: ANN401
    """Return KL(q || p), (q's, p's), in nats; Chyzak and Nielsen 2019.

        log(((s_q + s_p)^2 + (l_q - l_p)^2) / (4 s_q s_p))

    Args:
        q: a Cauchy of torch's, (q's).
        p: likewise, (p's).
    """
    loc, scale = (getattr(q, n).double().numpy()[:, None] for n in ("loc", "scale"))
    other, its_scale = (getattr(p, n).double().numpy() for n in ("loc", "scale"))
    distance = np.log(np.hypot(scale + its_scale, loc - other))
    return 2 * distance - np.log(4) - np.log(scale) - np.log(its_scale)


class ContinuousBernoulli:
    """A density on (0, 1) that is proportional to exp(logit x): an Exponential, cut off.

    Args:
        logits: (n, 1).
    """

    def __init__(self, logits: np.ndarray) -> None:
        self._logits = logits

    def support(self) -> tuple[np.ndarray, np.ndarray]:
        """Return where it begins and ends."""
        zeros = np.zeros_like(self._logits)
        return zeros, zeros + 1

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        """Return the log-density: a x - log((exp(a) - 1) / a)."""
        size = np.abs(self._logits)
        # The larger end is taken as the origin, so that nothing overflows.
        from_end = np.where(self._logits > 0, 1 - x, x)
        return -size * from_end - np.log(special.exprel(-size))

    def ppf(self, u: np.ndarray) -> np.ndarray:
        """Return the quantile at `u` from below."""
        return self._quantile(u, self._logits)

    def isf(self, u: np.ndarray) -> np.ndarray:
        """Return the quantile at `u` from above."""
        return 1 - self._quantile(u, -self._logits)

    def _quantile(self, u: np.ndarray, a: np.ndarray) -> np.ndarray:
        safe = np.where(np.abs(a) < 1e-9, 1e-9, a)
        # log(1 + u (exp(a) - 1)) / a, for large a from the other end.
        small = np.log1p(u * np.expm1(np.minimum(safe, 0.0))) / safe
        large = 1 + np.log(u - (u - 1) * np.exp(-np.maximum(safe, 0.0))) / safe
        near = np.log1p(u * np.expm1(np.clip(safe, -1, 1))) / safe
        return np.where(np.abs(safe) < 1, near, np.where(safe < 0, small, large))


class Bernoulli:
    """0 or 1, by the logarithms of both probabilities.

    Args:
        log_0: (n, 1).
        log_1: (n, 1).
    """

    def __init__(self, log_0: np.ndarray, log_1: np.ndarray) -> None:
        self._logs = log_0, log_1

    def ppf(self, u: float) -> np.ndarray:
        """Return its largest value."""
        return np.ones(1)

    def logpmf(self, x: np.ndarray) -> np.ndarray:
        """Return the logarithm of the probability of `x`."""
        some = np.where(x == 0, self._logs[0], self._logs[1])
        return np.where(x > 1, -np.inf, some)


class WithLogDensity:
    """A distribution of scipy's with a log-density that does not underflow.

    Args:
        frozen: the distribution.
        logpdf: its log-density.
    """

    def __init__(self, frozen: Any, logpdf: Any) -> None:  # noqa: ANN401
        self.support, self.ppf, self.isf = frozen.support, frozen.ppf, frozen.isf
        self.logpdf = logpdf
