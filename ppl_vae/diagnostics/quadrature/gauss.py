"""Gauss rules for the distributions that have one: points and weights for E_q[f(z)]."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy import special
from torch import Tensor
from torch import distributions as dist

from ppl_vae import checks
from ppl_vae.diagnostics.sampling.distributions import is_discrete

LARGEST_DIMENSION = 2


def gauss_hermite(num_points: int) -> tuple[Tensor, Tensor]:
    """Return the Gauss rule for a standard Normal.

    ``sum_i w_i f(x_i) = E[f(x)]`` for every polynomial of degree below ``2 num_points``.

    Args:
        num_points: at least 1.

    Returns:
        Points and weights, each (num_points,), float64; the weights sum to 1.

    Raises:
        TypeError: `num_points` is no int.
        ValueError: it is below 1.

    Source:
        Roots of the probabilists' Hermite polynomial, from ``scipy.special.roots_hermitenorm``.

    Example:
        >>> x, w = gauss_hermite(3)
        >>> round((w * x**4).sum().item(), 12)
        3.0
    """
    nodes, weights = _hermite(checks.count("num_points", num_points))
    return torch.tensor(nodes), torch.tensor(weights)


def gauss_laguerre(num_points: int, concentration: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
    """Return the Gauss rule for a Gamma(concentration, 1), an Exponential(1) by default.

    ``sum_i w_i f(x_i) = E[f(x)]`` for every polynomial of degree below ``2 num_points``.
    Points and weights carry gradients in `concentration`; they are right for the same
    polynomials.

    Args:
        num_points: at least 1.
        concentration: a > 0, any shape (*batch).

    Returns:
        Points and weights, each (num_points, *batch), float64; the weights sum to 1 over the
        first dimension.

    Raises:
        TypeError: an argument is of a wrong kind.
        ValueError: `num_points` below 1, or a concentration that is not finite and above 0.

    Source:
        Golub and Welsch (1969): eigenvalues and squared first components of the eigenvectors of
        the Jacobi matrix of the generalised Laguerre polynomials L^(a-1), with diagonal 2 k + a
        and off-diagonal sqrt(k (k - 1 + a)). Unlike ``scipy.special.roots_genlaguerre`` it has a
        gradient, and does not overflow for a > 170.

    Example:
        >>> x, w = gauss_laguerre(2, 3.0)
        >>> round((w * x**3).sum().item(), 12)
        60.0
    """
    checks.count("num_points", num_points)
    (concentration,) = checks.floats(concentration=concentration)
    a = checks.positive("concentration", concentration).double().unsqueeze(-1)
    k = torch.arange(num_points, dtype=a.dtype, device=a.device)
    off_diagonal = (k[1:] * (k[1:] - 1 + a)).sqrt()
    # Upper and lower triangle alike: the gradient of eigh symmetrises.
    jacobi = torch.diag_embed(2 * k + a)
    jacobi = jacobi + torch.diag_embed(off_diagonal, 1) + torch.diag_embed(off_diagonal, -1)
    nodes, vectors = torch.linalg.eigh(jacobi)
    return nodes.movedim(-1, 0), vectors[..., 0, :].square().movedim(-1, 0)


def rule_for(distribution: dist.Distribution, num_points: int) -> tuple[Tensor, Tensor]:
    """Return points in the units of z, and weights, of the Gauss rule of a distribution.

    Args:
        distribution: Normal, Exponential or Gamma, or ``Independent`` of one of them with one or
            two event dimensions in all, or MultivariateNormal of one or two.
        num_points: N, per event dimension.

    Returns:
        Points, (N^d, *batch_shape, *event_shape), differentiable in the parameters, and weights,
        (N^d, *batch_shape) or with ones there, that sum to 1 over the first dimension.

    Raises:
        TypeError: the distribution has no Gauss rule here.
        ValueError: more than two event dimensions.
    """
    require_small(distribution)
    if isinstance(distribution, dist.MultivariateNormal):
        loc = distribution.loc
        nodes, weights = (v.to(loc) for v in gauss_hermite(num_points))
        shape = (num_points, *(1 for _ in loc.shape))
        z, weights = _product(
            *(v.reshape(shape).expand(num_points, *loc.shape) for v in (nodes, weights))
        )
        return loc + (distribution.scale_tril @ z.unsqueeze(-1)).squeeze(-1), weights
    if not isinstance(distribution, dist.Independent):
        return _one_dimensional(distribution, num_points)
    base, depth = distribution.base_dist, distribution.reinterpreted_batch_ndims
    if base.event_shape:
        raise _no_rule(distribution)
    z, weights = _one_dimensional(base, num_points)
    shape = z.shape[: z.dim() - depth] + (-1,)
    weights = weights.expand(z.shape)
    z, weights = _product(z.reshape(shape), weights.reshape(shape))
    return z.reshape(-1, *distribution.batch_shape, *distribution.event_shape), weights


def require_small(distribution: dist.Distribution) -> int:
    """Return how many numbers one draw has: 1 or 2; raise for more, and for discrete ones."""
    name, dim = type(distribution).__name__, distribution.event_shape.numel()
    remedy = "Use method='monte-carlo'."
    if is_discrete(distribution):
        raise TypeError(checks.message("a continuous distribution", f"{name}, discrete", remedy))
    if not 1 <= dim <= LARGEST_DIMENSION:
        raise ValueError(
            checks.message(
                "a distribution over one or two dimensions",
                f"{name} of event shape {tuple(distribution.event_shape)}",
                remedy,
            )
        )
    return dim


def _one_dimensional(base: dist.Distribution, num_points: int) -> tuple[Tensor, Tensor]:
    shape = (num_points, *(1 for _ in base.batch_shape))
    if isinstance(base, dist.Normal):
        nodes, weights = (v.reshape(shape) for v in _as(base.loc, *gauss_hermite(num_points)))
        return base.loc + base.scale * nodes, weights
    if isinstance(base, dist.Exponential):
        nodes, weights = _as(base.rate, *gauss_laguerre(num_points))
        return nodes.reshape(shape) / base.rate, weights.reshape(shape)
    if isinstance(base, dist.Gamma):
        nodes, weights = _as(base.rate, *gauss_laguerre(num_points, base.concentration))
        return nodes / base.rate, weights
    raise _no_rule(base)


def _product(z: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the tensor product of one-dimensional rules along the last dimension, (N, ..., d)."""
    dim = z.shape[-1]
    number = torch.arange(len(z), device=z.device)
    index = torch.cartesian_prod(*[number] * dim).reshape(-1, dim)
    z = torch.stack([z[index[:, d], ..., d] for d in range(dim)], dim=-1)
    return z, torch.stack([weights[index[:, d], ..., d] for d in range(dim)]).prod(0)


def _as(like: Tensor, *tensors: Tensor) -> list[Tensor]:
    return [t.to(like) for t in tensors]


def _no_rule(distribution: dist.Distribution) -> TypeError:
    return TypeError(
        checks.message(
            "Normal, Exponential, Gamma, Independent of one of them, or MultivariateNormal",
            type(distribution).__name__,
            "Use method='adaptive', which needs a density only, or 'monte-carlo'.",
        )
    )


@lru_cache(maxsize=64)
def _hermite(num_points: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = special.roots_hermitenorm(num_points)
    return nodes, weights / weights.sum()
