"""Values and gradients of estimators, one or many, and the toy's by hand."""

import math
from collections.abc import Callable, Sequence

import torch
from pyro.infer import ELBO
from torch import Tensor

from ppl_vae.diagnostics import Estimate
from ppl_vae.diagnostics.comparison.replicates import mean_of

Function = Callable[..., object]


def value_and_gradient(
    elbo: ELBO, model: Function, guide: Function, args: tuple, parameters: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Return one estimate, to be maximised, and its gradient by all parameters, flat."""
    loss = elbo.differentiable_loss(model, guide, *args)
    slopes = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return -loss.detach(), -torch.cat([slope.flatten() for slope in slopes])


def replicates(
    elbo: ELBO,
    model: Function,
    guide: Function,
    args: tuple,
    parameters: Sequence[Tensor],
    count: int,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Return estimates, (count,), and gradients, (count, parameters); each from its own seed."""
    values, gradients = [], []
    for number in range(count):
        torch.manual_seed(1000 * seed + number)
        value, gradient = value_and_gradient(elbo, model, guide, args, parameters)
        values.append(value)
        gradients.append(gradient)
    return torch.stack(values), torch.stack(gradients)


def mean_value(
    elbo: ELBO, model: Function, guide: Function, *args: object, count: int = 40, seed: int = 0
) -> Estimate:
    """Return the mean of `count` estimates."""
    torch.manual_seed(seed)
    losses = [float(elbo.loss(model, guide, *args)) for _ in range(count)]
    return mean_of(-torch.tensor(losses))


def agree(first: Estimate, second: Estimate | float, bound: float = 4.5) -> bool:
    """Return whether two means differ by less than `bound` of their standard errors."""
    if isinstance(second, float):
        second = Estimate(second, 0.0, 1)
    error = math.hypot(first.standard_error, second.standard_error)
    return abs(first.mean - second.mean) < bound * error + 1e-10


def toy_by_hand(
    x: Tensor, e: Tensor, *, prior: float, noise: float, rate: float
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return each estimator's value and gradient by log rate, at z = e / rate.

    x is (*batch, n), e is (*batch); results are summed over data sets. With
    f = log p(x, z) - log q(z) = k + (B/r + 1) e - m e^2 / (2 r^2) - log r.
    """
    s, m = x.sum(-1) / noise**2, x.shape[-1] / noise**2
    b, r, z = s - prior, rate, e / rate
    c = -x.square().sum(-1) / (2 * noise**2) - x.shape[-1] * math.log(
        noise * math.sqrt(2 * math.pi)
    )
    log_p = math.log(prior) - prior * z + c + s * z - m * z.square() / 2
    f = log_p - math.log(r) + r * z
    likelihood = c + s * z - m * z.square() / 2
    kl = math.log(r / prior) + prior / r - 1
    curve = m * e.square() / r**3
    found = {
        "trace": (f, -b * e / r**2 + curve - 1 / r),
        "analytic-kl": (likelihood - kl, -s * e / r**2 + curve - 1 / r + prior / r**2),
        "sticking-the-landing": (f, -(b + r) * e / r**2 + curve),
        "score-function": (f, f * (1 - e) / r),
    }
    return {name: (v.sum(), r * by_rate.sum()) for name, (v, by_rate) in found.items()}
