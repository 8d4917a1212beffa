"""The linear Gaussian model (probabilistic PCA): a VAE whose answers are exact.

    p(z) = Normal(0, I_k)        p(x | z) = Normal(W z + b, s I_d)

Everything is computed in k dimensions, in float64. In units of the noise, A = W / s and
r = (x - b) / s, the posterior precision is I + A'A = T'T with T lower triangular.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from ppl_vae.checks import Real, positive
from ppl_vae.closed_forms.parts import linear_gaussian_parts as parts
from ppl_vae.closed_forms.parts.linear_gaussian_fit import (
    MaximumLikelihood,
    covariance_eigenvalues,
    expected_active_units,
    maximum_likelihood,
    weighted_maximum_likelihood,
)
from ppl_vae.closed_forms.paths.linear_gaussian_path import path_expectation

__all__ = [
    "MaximumLikelihood",
    "covariance_eigenvalues",
    "elbo",
    "elbo_full",
    "expected_active_units",
    "log_evidence",
    "maximum_likelihood",
    "path_expectation",
    "posterior",
    "weighted_maximum_likelihood",
]


def log_evidence(x: Tensor, weight: Tensor, loc: Real, noise_scale: Real) -> Tensor:
    """Return log p(x) of a Normal with mean b and covariance W W' + s^2 I.

    ``log p(x) = -(d/2) log(2 pi s^2) - log det T - (|r - A m|^2 + |m|^2) / 2``, with m the mean of
    the posterior.

    Args:
        x: data, (*batch, d).
        weight: W, (d, k); any k from 1.
        loc: b, (d,) or one number.
        noise_scale: s, one number above 0.

    Returns:
        Per example, (*batch), in nats; summed over the d dimensions.

    Raises:
        TypeError: an argument is not a floating-point tensor (or number, where one will do).
        ValueError: wrong shapes, no data, a NaN or infinity, or a noise scale not above 0.

    Source:
        Determinant lemma: det(I + AA') = det(I + A'A) = (det T)^2. Woodbury:
        r'(I + AA')^-1 r = min over z of |r - A z|^2 + |z|^2, which subtracts no large numbers and
        is stationary at m, so that errors in m hardly count. Tipping and Bishop (1999), sec. 3.1.

    Example:
        >>> x, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0], [0.0]])
        >>> log_evidence(x, weight, loc=0.0, noise_scale=1.0)
        tensor([-4.4345])
    """
    x, difference, w, s = parts.prepare(x, weight, loc, noise_scale)
    t, gain = parts.factor(w, s)
    constant = parts.log_normaliser(w, s) + t.diagonal().log().sum()
    energy = parts.energy(difference, w, s, difference @ gain.mT)
    return (-constant - 0.5 * energy).to(x.dtype)


def posterior(x: Tensor, weight: Tensor, loc: Real, noise_scale: Real) -> MultivariateNormal:
    """Return p(z | x) = Normal(M^-1 W'(x - b), s^2 M^-1) with M = W'W + s^2 I.

    Args:
        x: data, (*batch, d).
        weight: W, (d, k); any k from 1.
        loc: b, (d,) or one number.
        noise_scale: s, one number above 0.

    Returns:
        Batch shape (*batch), event shape (k,), units of z. All examples share one ``scale_tril``:
        it is expanded, not copied.

    Raises:
        TypeError: an argument is not a floating-point tensor (or number, where one will do).
        ValueError: wrong shapes, no data, a NaN or infinity, or a noise scale not above 0.

    Source:
        Completing the square in z; s^2 M^-1 = (T'T)^-1 has the Cholesky factor T^-1.
        Tipping and Bishop (1999), sec. 3.1.

    Example:
        >>> p = posterior(torch.tensor([3.0, 0.0]), torch.tensor([[1.0], [1.0]]), 0.0, 1.0)
        >>> p.mean, p.variance
        (tensor([1.]), tensor([0.3333]))
    """
    x, difference, w, s = parts.prepare(x, weight, loc, noise_scale)
    t, gain = parts.factor(w, s)
    scale_tril = torch.linalg.solve_triangular(t, parts.identity(t), upper=False)
    mean = (difference @ gain.mT).to(x.dtype)
    # Made for one example and expanded: made for all, it would check a factor for each of them.
    one = MultivariateNormal(mean.new_zeros(len(t)), scale_tril=scale_tril.to(x.dtype))
    result = cast(MultivariateNormal, one.expand(mean.shape[:-1]))
    result.loc = mean
    return result


def elbo(
    x: Tensor, weight: Tensor, loc: Real, noise_scale: Real, guide_loc: Tensor, guide_scale: Real
) -> Tensor:
    """Return the exact ELBO of a diagonal guide, q(z | x) = Normal(m, diag(q)).

    ``-(d/2) log(2 pi s^2) + k/2 + sum_j log q_j
    - (|r - A m|^2 + |m|^2 + sum_j q_j^2 (1 + |a_j|^2)) / 2``, a_j the columns of A.

    Args:
        x: data, (*batch, d).
        weight: W, (d, k); any k from 1.
        loc: b, (d,) or one number.
        noise_scale: s, one number above 0.
        guide_loc: m, (*batch, k), or (k,) for all examples.
        guide_scale: q, standard deviations above 0: (*batch, k), (k,) or one number.

    Returns:
        Per example, (*batch), in nats; summed over the d and k dimensions. `log_evidence` less
        KL(q || posterior); a diagonal guide can bring that to 0 only where W'W is diagonal.

    Raises:
        TypeError: an argument is not a floating-point tensor (or number, where one will do).
        ValueError: wrong shapes, no data, a NaN or infinity, or a scale not above 0.

    Source:
        E|r - A z|^2 = |r - A m|^2 + sum q_j^2 |a_j|^2; E|z|^2 = |m|^2 + sum q_j^2; entropy of q.

    Example:
        >>> x, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0], [0.0]])
        >>> elbo(x, weight, 0.0, 1.0, guide_loc=torch.tensor([[0.5]]), guide_scale=0.5**0.5)
        tensor([-4.4345])
    """
    x, difference, w, s, m, q = parts.prepare(
        x, weight, loc, noise_scale, guide_loc=guide_loc, guide_scale=guide_scale
    )
    m = parts.guide_mean(m, w)
    if q.dim() == 0:
        q = q.expand(m.shape[-1:])
    parts.require_shape("guide_scale", q, "(*batch, k), (k,) or ()", w.shape[1:])
    q = positive("guide_scale", q).double()
    parts.require_batches(x=x[..., 0], guide_loc=m[..., 0], guide_scale=q[..., 0])
    spread = q.square() @ (1 + (w / s).square().sum(0))
    constant = 0.5 * w.shape[1] - parts.log_normaliser(w, s)
    energy = parts.energy(difference, w, s, m)
    return (constant + q.log().sum(-1) - 0.5 * (energy + spread)).to(x.dtype)


def elbo_full(
    x: Tensor,
    weight: Tensor,
    loc: Real,
    noise_scale: Real,
    guide_loc: Tensor,
    guide_scale_tril: Tensor,
) -> Tensor:
    """Return the exact ELBO of a full Gaussian guide, q(z | x) = Normal(m, L L').

    ``-(d/2) log(2 pi s^2) + k/2 + sum_j log L_jj - (|r - A m|^2 + |m|^2 + |T L|^2) / 2``,
    |T L|^2 the sum of the squares of all entries.

    Args:
        x: data, (*batch, d).
        weight: W, (d, k); any k from 1.
        loc: b, (d,) or one number.
        noise_scale: s, one number above 0.
        guide_loc: m, (*batch, k), or (k,) for all examples.
        guide_scale_tril: L, lower triangular, diagonal above 0: (*batch, k, k), or (k, k) for all.

    Returns:
        Per example, (*batch), in nats; summed over the d and k dimensions. Equal to
        `log_evidence` at the posterior's ``mean`` and ``scale_tril``.

    Raises:
        TypeError: an argument is not a floating-point tensor (or number, where one will do).
        ValueError: wrong shapes, no data, a NaN or infinity, a noise scale not above 0, or an L
            that is not lower triangular with a diagonal above 0.

    Source:
        As `elbo`, with tr((I + A'A) L L') = tr(L'T'T L).

    Example:
        >>> x, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0], [0.0]])
        >>> q = posterior(x, weight, 0.0, 1.0)
        >>> elbo_full(x, weight, 0.0, 1.0, q.mean, q.scale_tril)
        tensor([-4.4345])
    """
    x, difference, w, s, m, tril = parts.prepare(
        x, weight, loc, noise_scale, guide_loc=guide_loc, guide_scale_tril=guide_scale_tril
    )
    m = parts.guide_mean(m, w)
    k = w.shape[1]
    parts.require_shape("guide_scale_tril", tril, "(*batch, k, k) or (k, k)", (k, k))
    parts.require_finite("guide_scale_tril", tril)
    parts.require_lower_triangular("guide_scale_tril", tril)
    tril = tril.double()
    parts.require_batches(x=x[..., 0], guide_loc=m[..., 0], guide_scale_tril=tril[..., 0, 0])
    t, _ = parts.factor(w, s)
    # In blocks: all the products at once would take as much memory again as the guide.
    blocks = tril.reshape(-1, k, k).split(512)
    norms = [torch.linalg.vector_norm(block.mT @ t.mT, dim=(-2, -1)) for block in blocks]
    spread = torch.cat(norms).square().reshape(tril.shape[:-2])
    log_volume = tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    constant = 0.5 * k - parts.log_normaliser(w, s)
    energy = parts.energy(difference, w, s, m)
    return (constant + log_volume - 0.5 * (energy + spread)).to(x.dtype)
