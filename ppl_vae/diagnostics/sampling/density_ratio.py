"""Where the density ratio p / q has an infinite second moment under q."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Exponential,
    Gamma,
    HalfNormal,
    Laplace,
    LogNormal,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
)

from ppl_vae.diagnostics.sampling.distributions import unwrap


def second_moment_is_infinite(q: Distribution, p: Distribution) -> Tensor | None:
    """Return where E_q[(p/q)^2], the integral of p^2 / q, is infinite; None where not known.

    In an exponential family p^2 / q has the natural parameter 2 eta_p - eta_q, and its integral
    is finite if that is a natural parameter again:

    * Normal, LogNormal, HalfNormal: 2 / p.scale^2 > 1 / q.scale^2. At equality the exponent is
      linear or constant, and the integral over a line infinite.
    * Gaussian vectors: 2 p.covariance^-1 - q.covariance^-1 positive definite, which is
      2 q.covariance - p.covariance positive definite.
    * Exponential: 2 p.rate > q.rate. Gamma: this, and 2 p.concentration > q.concentration.
    * Laplace (by its tails): 2 / p.scale > 1 / q.scale.

    Of independent components one that is infinite is enough, as no factor is below 1.

    Args:
        q: a distribution; may be wrapped in ``Independent``.
        p: another of the same event shape.

    Returns:
        Booleans whose shape broadcasts to the batch shape of q and p, or None for families that
        are not listed above.

    Source:
        By completing the exponent of p^2 / q, family by family.

    Example:
        >>> q = Normal(torch.tensor([0.0, 0.0]), torch.tensor([0.7, 0.8]))
        >>> second_moment_is_infinite(q, Normal(0.0, 1.0))
        tensor([ True, False])
    """
    (q_base, dims), (p_base, _) = unwrap(q), unwrap(p)
    if q_base.event_shape == p_base.event_shape:
        for families, condition in _CONDITIONS:
            if isinstance(q_base, families) and isinstance(p_base, families):
                found = condition(q_base, p_base)
                for _ in range(dims):
                    found = found.any(-1)
                return found
    if (q_tril := _scale_tril(q)) is not None and (p_tril := _scale_tril(p)) is not None:
        return _too_narrow_vector(q_tril, p_tril)
    return None


def _too_narrow(q: Any, p: Any) -> Tensor:  # noqa: ANN401
    return (q.scale.double() / p.scale.double()).square() <= 0.5


def _too_steep(q: Any, p: Any) -> Tensor:  # noqa: ANN401
    return q.rate.double() >= 2 * p.rate.double()


def _too_narrow_vector(q_tril: Tensor, p_tril: Tensor) -> Tensor:
    """Return whether 2 A A' - I is not positive definite, A = p_tril^-1 q_tril."""
    whitened = torch.linalg.solve_triangular(p_tril, q_tril, upper=False)
    unit = torch.eye(whitened.shape[-1], dtype=whitened.dtype, device=whitened.device)
    return torch.linalg.cholesky_ex(2 * whitened @ whitened.mT - unit).info > 0


_VECTORS = (MultivariateNormal, LowRankMultivariateNormal)
_CONDITIONS: tuple[tuple[Any, Callable[[Any, Any], Tensor]], ...] = (
    (Normal, _too_narrow),
    (LogNormal, _too_narrow),
    (HalfNormal, _too_narrow),
    (Laplace, lambda q, p: 2 * q.scale.double() <= p.scale.double()),
    (Exponential, _too_steep),
    (
        Gamma,
        lambda q, p: _too_steep(q, p) | (q.concentration.double() >= 2 * p.concentration.double()),
    ),
    (_VECTORS, lambda q, p: _too_narrow_vector(q.scale_tril.double(), p.scale_tril.double())),
)


def _scale_tril(distribution: Distribution) -> Tensor | None:
    """Return the Cholesky factor of a Gaussian vector's covariance, (*batch, size, size)."""
    base, dims = unwrap(distribution)
    if isinstance(base, _VECTORS) and dims == 0:
        return base.scale_tril.double()
    if isinstance(base, Normal) and dims == 1:
        return torch.diag_embed(base.scale.double())
    return None
