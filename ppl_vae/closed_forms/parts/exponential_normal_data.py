"""What the toy's closed forms share: checks of their input, and a mean that keeps its digits."""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.checks import Real
from ppl_vae.closed_forms.numerics.compensated import sum_with_error, two_product, two_sum


def promoted(x: Tensor, **rates: Real) -> tuple[torch.dtype, tuple[Tensor, ...]]:
    """Check the input; return the dtype of the results, and x and the rates in float64."""
    checks.nonempty("x", checks.floating("x", x))
    if x.dim() == 0:
        remedy = "Make a single observation x.unsqueeze(-1)."
        raise checks.value_error("x of shape (*batch, n)", "shape ()", remedy)
    common, *values = checks.floats(x=x, **rates)
    checks.finite("x", x)
    tensors = dict(zip(rates, values, strict=True))
    for name, value in tensors.items():
        checks.positive(name, value)
    checks.broadcastable(**{"one observation of x": x[..., 0]}, **tensors)
    return common.dtype, (x.double(), *(_exact(rate, x.device) for rate in rates.values()))


def promoted_rates(**rates: Real) -> tuple[torch.dtype, tuple[Tensor, ...]]:
    """Check rates without data as `promoted` does; return the dtype and the rates in float64."""
    values = checks.floats(**rates)
    tensors = dict(zip(rates, values, strict=True))
    for name, value in tensors.items():
        checks.positive(name, value)
    checks.broadcastable(**tensors)
    device = values[0].device
    return values[0].dtype, tuple(_exact(rate, device) for rate in rates.values())


def _exact(rate: Real, device: torch.device) -> Tensor:
    # From the argument itself: a Python number keeps its 53 bits beside float32 data.
    return torch.as_tensor(rate, dtype=torch.float64, device=device)


def shifted_mean(
    x: Tensor, noise_scale: Tensor, rate: Tensor, less: Tensor | None = None
) -> Tensor:
    """Return ``mean(x) - (rate - less) noise_scale^2 / n``, whose digits survive any cancellation.

    With lam the prior's rate it is the posterior's location B/m for ``rate=lam``, and (B + r)/m
    for ``rate=lam, less=r``. The value is computed with twice the digits; the derivative is that
    of the plain formula.
    """
    n = x.shape[-1]
    net = rate if less is None else rate - less
    plain = x.mean(-1) - net * noise_scale.square() / n
    with torch.no_grad():
        total, total_low = sum_with_error(x)
        net, net_low = (rate, 0.0) if less is None else two_sum(rate, -less)
        variance, variance_low = two_product(noise_scale, noise_scale)
        pull, pull_low = two_product(net, variance)
        pull_low = pull_low + net * variance_low + net_low * variance
        rest, rest_low = two_sum(total, -pull)
        accurate = (rest + (rest_low + total_low - pull_low)) / n
    return accurate + (plain - plain.detach())
