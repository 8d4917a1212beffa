"""The linear Gaussian model fitted to data: maximum likelihood and the units that stay active."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ppl_vae.checks import (
    Real,
    count,
    floating,
    floats,
    positive,
    positive_number,
    value_error,
    values_are_checked,
)
from ppl_vae.closed_forms.parts.linear_gaussian_parts import require_finite


class MaximumLikelihood(NamedTuple):
    """The linear Gaussian model's parameters, in the order in which its functions take them."""

    weight: Tensor
    loc: Tensor
    noise_scale: Tensor


def maximum_likelihood(
    x: Tensor, latent_dim: int, *, noise_scale: Real | None = None
) -> MaximumLikelihood:
    """Return the weight, loc and noise scale under which the data are likeliest.

    With l_1 >= ... >= l_d the eigenvalues of the data covariance (divided by n) and U_k the first
    k eigenvectors, ``b = mean(x)``, ``s^2 = (l_{k+1} + ... + l_d) / (d - k)``,
    ``W = U_k diag(sqrt(l_j - s^2))``.

    For a given noise scale s the likeliest W has the same form, with columns of 0 where l_j is not
    above s^2, and b is the same. W R is as likely for every rotation R. At R = I, given here, W'W
    is diagonal, so a diagonal guide can be exact; each column's largest entry is positive.

    Args:
        x: examples, (n, d), finite.
        latent_dim: k, from 1 to d - 1.
        noise_scale: s, one number above 0, where it is given and not sought.

    Returns:
        weight (d, k), loc (d,), noise_scale (), in the units of x. A column is 0 where l_j is at
        most s^2. Not differentiable with respect to x.

    Raises:
        TypeError: `x` is not a floating-point tensor or `latent_dim` not an int.
        ValueError: `x` is not (n, d), is empty or not finite; `latent_dim` is not in 1..d-1; or
            the examples vary in at most `latent_dim` directions (as all-equal ones do, or
            latent_dim + 1 of them): the noise scale would be 0, the likelihood unbounded; or
            `noise_scale` is not one number above 0.

    Source:
        Tipping and Bishop (1999), eqs. 7 and 8; for a given s, their appendix A.

    Example:
        >>> x = torch.tensor([[3.0, 1.0], [-3.0, 1.0], [3.0, -1.0], [-3.0, -1.0]])
        >>> weight, loc, noise_scale = maximum_likelihood(x, 1)
        >>> bool(((weight.T - torch.tensor([8**0.5, 0.0])).abs() < 1e-6).all()), noise_scale
        (True, tensor(1.))
    """
    d = _examples(x).shape[1]
    if count("latent_dim", latent_dim) >= d:
        raise value_error(
            f"latent_dim below the data's dimension {d}",
            repr(latent_dim),
            "Choose a smaller one: no dimension is left to tell the noise from.",
        )
    loc, scales, directions = _principal_components(x)
    if noise_scale is None:
        s = (scales[latent_dim:].square().sum() / (d - latent_dim)).sqrt()
    else:
        s = _one_above_zero("noise_scale", noise_scale).to(scales)
    floor = torch.finfo(scales.dtype).eps * max(x.shape) * scales[0]
    if noise_scale is None and values_are_checked() and bool(s <= floor):
        raise value_error(
            f"examples that vary in more than latent_dim = {latent_dim} directions",
            f"{x.shape[0]} examples that do not: noise scale 0, likelihood unbounded",
            "Pass more varied examples, or choose a smaller latent_dim.",
        )
    kept = directions[:latent_dim].T
    lengths = (scales[:latent_dim].square() - s.square()).clamp_min(0).sqrt()
    largest = kept.gather(0, kept.abs().argmax(0, keepdim=True))
    weight = kept * torch.where(largest < 0, -lengths, lengths)
    return MaximumLikelihood(*(t.to(x.dtype) for t in (weight, loc, s)))


def weighted_maximum_likelihood(
    x: Tensor, latent_dim: int, *, kl_weight: Real, noise_scale: Real
) -> MaximumLikelihood:
    """Return the weight and loc at which the ELBO with a weighted KL is largest, the noise held.

    ``E_q log p(x | z) - beta KL(q || p(z))``, beta the weight, has the optimum of
    `maximum_likelihood` at the noise variance ``beta s^2``: ``b = mean(x)``,
    ``W = U_k diag(sqrt(l_j - beta s^2))``. Unit j is in use if and only if ``l_j > beta s^2``.

    The best guide is `posterior` at the noise scale ``t = sqrt(beta) s``, and diagonal. With
    `log_evidence` at t, the maximum per example is
    ``beta log p_t(x) + (d/2) (beta log(2 pi t^2) - log(2 pi s^2))``.

    Args:
        x: examples, (n, d), finite.
        latent_dim: k, from 1 to d - 1.
        kl_weight: beta, one number above 0. At 0 no guide is best: a narrower one is better.
        noise_scale: s, one number above 0.

    Returns:
        weight (d, k), loc (d,) and noise_scale () as it came, in the units of x. A column is 0
        where l_j is at most beta s^2. Not differentiable with respect to x.

    Raises:
        TypeError: `x` is not a floating-point tensor, `latent_dim` not an int, or `kl_weight` or
            `noise_scale` not a number.
        ValueError: `x` is not (n, d), is empty or not finite; `latent_dim` is not in 1..d-1; or
            `kl_weight` or `noise_scale` is not one number above 0.

    Source:
        The best q is proportional to ``p(z) p(x | z)^(1/beta)``, a power of a Normal density that
        is one with noise t, up to a constant; derived on the documentation's page of closed forms.
        For beta = 1: Tipping and Bishop (1999); Lucas et al. (2019), "Don't blame the ELBO!".

    Example:
        >>> x = torch.tensor([[3.0, 1.0], [-3.0, 1.0], [3.0, -1.0], [-3.0, -1.0]])
        >>> weight, loc, noise_scale = weighted_maximum_likelihood(
        ...     x, 1, kl_weight=5.0, noise_scale=1.0
        ... )
        >>> bool(((weight.T - torch.tensor([2.0, 0.0])).abs() < 1e-6).all()), noise_scale
        (True, tensor(1.))
    """
    _examples(x)
    beta = _one_above_zero("kl_weight", kl_weight)
    s = _one_above_zero("noise_scale", noise_scale).to(beta)
    weight, loc, _ = maximum_likelihood(x, latent_dim, noise_scale=beta.sqrt() * s)
    return MaximumLikelihood(weight, loc, s.to(x))


def covariance_eigenvalues(x: Tensor) -> Tensor:
    """Return the eigenvalues of the data covariance, largest first.

    ``S = (1/n) sum_i (x_i - mean)(x_i - mean)'``

    Args:
        x: examples, (n, d), finite.

    Returns:
        (d,), at least 0, in squared units of x; 0 beyond the number of examples. Not
        differentiable.

    Raises:
        TypeError: `x` is not a floating-point tensor.
        ValueError: `x` is not (n, d), is empty or not finite.

    Source:
        Squared singular values of the centred data over n; the covariance itself is never formed.

    Example:
        >>> covariance_eigenvalues(torch.tensor([[3.0, 1.0], [-3.0, 1.0]]))
        tensor([9., 0.])
    """
    return _principal_components(_examples(x))[1].square().to(x.dtype)


def expected_active_units(
    x: Tensor, noise_scale: Real, *, latent_dim: int | None = None, threshold: float = 0.0
) -> Tensor:
    """Return how many latent units a linear VAE with this noise scale uses at its best W.

    The number of eigenvalues l of the data covariance with ``1 - s^2 / l > threshold``: at
    threshold 0, those above the noise variance s^2. None is left (the full collapse) if and only
    if s^2 is at least the largest.

    For a given s the best W has columns sqrt(l_j - s^2) u_j, or 0 where l_j <= s^2. There the
    exact posterior's mean of unit j is sqrt(l_j - s^2) / l_j u_j'(x - b); its variance over the
    data is 1 - s^2 / l_j. Burda, Grosse and Salakhutdinov call a unit active where this variance
    exceeds 0.01: that count is ``threshold=0.01``, never above the count at 0. Theirs changes with
    the rotation of W (R = I here); the count at 0 is the rank of W and does not.

    Args:
        x: examples, (n, d), finite.
        noise_scale: s, above 0, of any shape: the eigenvalues are found once for all of them.
        latent_dim: k, the units that the model has; no limit by default.
        threshold: smallest variance of an active unit's posterior mean, in [0, 1).

    Returns:
        Whole numbers (int64) of the shape of `noise_scale`.

    Raises:
        TypeError: `x` is not a floating-point tensor, or `latent_dim` not an int.
        ValueError: `x` is not (n, d), is empty or not finite; `noise_scale` or `latent_dim` is
            not above 0; `threshold` is not in [0, 1).

    Source:
        Stationary points of the likelihood: Tipping and Bishop (1999), appendix A. The threshold:
        Burda, Grosse and Salakhutdinov (2015).

    Example:
        >>> x = torch.tensor([[3.0, 1.0], [-3.0, 1.0], [3.0, -1.0], [-3.0, -1.0]])
        >>> expected_active_units(x, torch.tensor([0.5, 2.0, 4.0]))
        tensor([2, 1, 0])
    """
    floating("x", x)
    if not 0 <= threshold < 1:
        raise value_error("threshold in [0, 1)", repr(threshold), "Pass 0, or 0.01 for Burda's.")
    x, noise_scale = floats(x=x, noise_scale=noise_scale)
    s = positive("noise_scale", noise_scale).detach().double()
    scales = _principal_components(_examples(x))[1]
    active = (scales * (1 - threshold) ** 0.5 > s[..., None]).sum(-1)
    return active if latent_dim is None else active.clamp_max(count("latent_dim", latent_dim))


def _examples(x: Tensor) -> Tensor:
    if floating("x", x).dim() != 2:
        raise value_error(
            "x of shape (n, d)", f"{tuple(x.shape)}", "Flatten each example to a row."
        )
    require_finite("x", x)
    return x


def _one_above_zero(name: str, value: Real) -> Tensor:
    """Return the number as a float64 tensor of shape ()."""
    if not isinstance(value, Tensor):
        return torch.tensor(positive_number(name, value), dtype=torch.float64)
    (value,) = floats(**{name: value})
    if value.numel() != 1:
        raise value_error(f"one {name}", f"shape {tuple(value.shape)}", "Call once for each.")
    return positive(name, value).detach().double().reshape(())


def _principal_components(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return, in float64, the mean, the d scales along the components, the components (rows)."""
    n, d = x.shape
    x = x.detach().double()
    # A mean of differences: exact where a column is constant, so that its variance is exactly 0.
    centred = x - x[0]
    shift = centred.mean(0)
    loc, centred = x[0] + shift, centred - shift
    # The triangular factor is small and has the same singular values. X'X would halve the digits.
    if n > d:
        centred = torch.linalg.qr(centred, mode="r").R
    _, values, directions = torch.linalg.svd(centred / n**0.5, full_matrices=False)
    return loc, torch.cat([values, values.new_zeros(d - len(values))]), directions
