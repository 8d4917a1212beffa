"""A mixture of diagonal Normals: its moments, and how much a draw tells about its component.

All tensors are float64. A mean is taken as the first entry plus the mean distance from it, so that
the mean of equal numbers is that number, to the last bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Entries of the largest temporary: a few of them fit into a core's cache; on a GPU, 256 MB.
_CPU_TILE, _CUDA_TILE = 2**19, 2**25
_COMPONENTS_PER_DRAW = 16
_LEAST_LOG = -1e3
_ERROR_SHARE = 0.05


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and covariance of the mixture of Normal(loc_i, diag(scale_i^2)), equally weighted.

    Attributes:
        mean: of the mixture, (latent_dim,).
        factor: the Cholesky factor of its covariance, (latent_dim, latent_dim).
        spread: its standard deviation in every dimension, (latent_dim,).
        loc_variance: the variance of loc over the components, (latent_dim,).
    """

    mean: Tensor
    factor: Tensor
    spread: Tensor
    loc_variance: Tensor


def moments(loc: Tensor, scale: Tensor) -> Moments:
    """Return the moments of a mixture from loc and scale, each (count, latent_dim).

    The covariance is the mean of diag(scale^2) plus the covariance of loc. Its factor comes from
    a QR decomposition of their square roots, so that nothing is squared, and a single component
    gives back its scale exactly.
    """
    count, latent_dim = loc.shape
    mean = mean_over_first(loc)
    largest = scale.amax(0)
    within = largest * mean_over_first((scale / largest).square()).sqrt()
    deviation = (loc - mean) / count**0.5
    roots = torch.cat([within.diag(), deviation])
    upper = torch.linalg.qr(roots, mode="r").R
    signs = torch.where(upper.diagonal() < 0, -1.0, 1.0).to(upper)
    factor = (signs.unsqueeze(-1) * upper).mT.contiguous()
    between = torch.linalg.vector_norm(deviation, dim=0)
    return Moments(mean, factor, torch.hypot(within, between), between.square())


def mean_over_first(x: Tensor) -> Tensor:
    """Return the mean over the first dimension, exact where all entries are equal."""
    return x[0] + (x - x[0]).mean(0)


@dataclass(frozen=True, eq=False)
class Information:
    """Mutual information of a draw and the index of its component, in nats, all (latent_dim + 1,).

    Of the marginal mixture in every dimension, and last of the joint one.

    Attributes:
        mean: the estimate.
        error: its standard error.
        effective_draws: how many draws carry the noise, the square of summed squares over summed
            fourth powers; where they are few, the error is itself uncertain.
    """

    mean: Tensor
    error: Tensor
    effective_draws: Tensor


def information(loc: Tensor, scale: Tensor, found: Moments, num_samples: int) -> Information:
    """Estimate the mutual information of a draw and the index of its component.

        log count - E[H(i | z)],    z ~ the mixture,    H the entropy of i given z

    Draws are stratified over the components and come from torch's global stream. Known means
    (control variates, see `_controls`) take off part of the noise; their coefficients for one half
    of the draws are fitted on the other half, so that the estimate stays unbiased. What they leave
    can be all in the tails, which few draws reach, so the error is never taken below 5% of what
    it is without them. `loc` and `scale` are (count, latent_dim), `found` the mixture's moments.
    """
    count, latent_dim = loc.shape
    start = torch.arange(num_samples, dtype=loc.dtype, device=loc.device)
    where = (start + torch.rand_like(start)) * (count / num_samples)
    index = where.long().clamp_max(count - 1)
    noise = torch.randn(num_samples, latent_dim, dtype=loc.dtype, device=loc.device)
    values = _information_given(loc, scale, loc[index] + scale[index] * noise, index)
    adjusted = _adjusted(values, _controls(loc, scale, found, noise, index))
    plain, error = _error(values), _error(adjusted)
    floored = error < _ERROR_SHARE * plain
    return Information(
        mean_over_first(adjusted),
        torch.where(floored, _ERROR_SHARE * plain, error),
        torch.where(floored, _effective_draws(values), _effective_draws(adjusted)),
    )


def _error(values: Tensor) -> Tensor:
    """Return the standard error of the mean of (draws, k), each draw from a stratum of its own.

    Neighbours differ by their noise, and by the difference of two strata at most; where that
    matters the error is too large, never too small.
    """
    steps = values - values.roll(1, 0)
    return (steps.square().sum(0) / 2).sqrt() / len(values)


def _effective_draws(values: Tensor) -> Tensor:
    squares = (values - mean_over_first(values)).square()
    return squares.sum(0).square() / squares.square().sum(0)


def _information_given(loc: Tensor, scale: Tensor, z: Tensor, index: Tensor) -> Tensor:
    """Return log count - H(i | z), from 0 to log count, (draws, latent_dim + 1).

    By dimension, and last for the joint. With i the component that z is from, the ratios
    r_k = q_k(z) / q_i(z) and T their sum, it is log(count / T) + sum of r_k log r_k / T. A ratio
    exceeds exp(t) with probability exp(-t) at most (Markov, since its mean under q_i is 1), so
    nothing overflows, and the own component's is exactly 1: 0 where all components are equal,
    log count where no other is near. Distances are (z - loc) / scale, which cancels nowhere.
    """
    count, latent_dim = loc.shape
    # Rows are dimensions, so that sums over components run along memory.
    loc_rows, rate_rows, log_rows, z_rows = (
        t.mT.contiguous().unsqueeze(1) for t in (loc, 0.5**0.5 / scale, scale.log(), z)
    )
    own = (z_rows - loc_rows[..., index]).mul_(rate_rows[..., index]).square_()
    own, z_rows = own.add_(log_rows[..., index]).mT, z_rows.mT
    tile = _CUDA_TILE if loc.is_cuda else _CPU_TILE
    width = min(count, max(1, tile // (_COMPONENTS_PER_DRAW * latent_dim)))
    height = min(len(z), max(1, tile // (width * latent_dim)))
    # The same buffers for all tiles: to allocate again can leave the heap in pieces of gigabytes.
    buffers = loc.new_empty(2, (latent_dim + 1) * height * width)
    sums = loc.new_zeros(2, latent_dim + 1, len(z))
    for top in range(0, len(z), height):
        rows = slice(top, top + height)
        for left in range(0, count, width):
            columns = slice(left, left + width)
            rates = rate_rows[..., columns]
            shape = (latent_dim + 1, min(height, len(z) - top), rates.shape[-1])
            logs, ratios = buffers[:, : math.prod(shape)].view(2, *shape)
            each = logs[:-1]
            torch.sub(z_rows[:, rows], loc_rows[..., columns], out=each)
            each.mul_(rates).square_().add_(log_rows[..., columns])
            torch.sub(own[:, rows], each, out=each)
            torch.sum(each, 0, out=logs[-1])
            torch.exp(logs, out=ratios)
            sums[0, :, rows] += ratios.sum(-1)
            # Where a logarithm is -inf or nearly, the ratio is 0.
            sums[1, :, rows] += logs.clamp_min_(_LEAST_LOG).mul_(ratios).sum(-1)
    return ((count / sums[0]).log() + sums[1] / sums[0]).mT


def _controls(loc: Tensor, scale: Tensor, found: Moments, noise: Tensor, index: Tensor) -> Tensor:
    """Return variables of mean 0, (draws, dim + 1, 3), for every marginal and the joint.

    With g the Normal with the mixture's moments: log q_i(z) and log g(z), each less its mean given
    i, and that mean of log q_i - log g, less its own. Where the mixture is nearly Normal, log q
    is nearly log g and little noise is left.
    """
    latent_dim = loc.shape[-1]
    eye = torch.eye(latent_dim, dtype=loc.dtype, device=loc.device)
    whiten = torch.linalg.solve_triangular(found.factor, eye, upper=False)
    centre, step = loc - found.mean, scale[index] * noise
    entropy = -scale.log()
    controls = []
    for joint in (False, True):
        if joint:
            shift, moved = centre @ whiten.mT, step @ whiten.mT
            precision = whiten.square().sum(0)
        else:
            shift, moved = centre / found.spread, step / found.spread
            precision = found.spread.pow(-2)
        own = (1 - noise.square()) / 2
        expected = scale.square() * precision / 2
        normal = expected[index] - moved.square() / 2 - moved * shift[index]
        between = entropy + shift.square() / 2 + expected
        parts = [own, normal, between]
        if joint:
            parts = [part.sum(-1, keepdim=True) for part in parts]
        parts[2] = (parts[2] - mean_over_first(parts[2]))[index]
        controls.append(torch.stack(parts, dim=-1))
    return torch.cat(controls, dim=1)


def _adjusted(values: Tensor, controls: Tensor) -> Tensor:
    """Return values, (draws, k), less the part that controls, (draws, k, 3), explain."""
    first = torch.arange(len(values), device=values.device) // 2 % 2 == 0
    adjusted = values.clone()
    for use, fit in ((first, ~first), (~first, first)):
        x, y = controls[fit], values[fit] - values[fit][0]
        x, y = x - x.mean(0), y - y.mean(0)
        size = x.square().mean(0).sqrt()
        size = torch.where(size > 0, size, 1.0)
        x = x / size
        gram = torch.einsum("ski,skj->kij", x, x)
        slopes = torch.einsum("ski,sk->ki", x, y).unsqueeze(-1)
        slopes = torch.linalg.pinv(gram, rtol=1e-10, hermitian=True) @ slopes
        adjusted[use] -= (controls[use] * (slopes.squeeze(-1) / size)).sum(-1)
    return adjusted
