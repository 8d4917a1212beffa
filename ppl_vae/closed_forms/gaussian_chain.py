"""The two-layer linear Gaussian chain: a hierarchy in which everything has a closed form.

    p: z2 ~ Normal(0, 1)    z1 ~ Normal(z2, 1)    x ~ Normal(z1, 1)

    bottom-up guide: z1 ~ Normal(a x + a0, s1)    z2 ~ Normal(b z1 + b0, s2)
    top-down guide:  z2 ~ Normal(c x + c0, s2)    z1 ~ Normal(d z2 + e x + f, s1)

Everything is elementwise: each element of x is a data point with its own z1 and z2. Parameters are
numbers or tensors and broadcast against x; results have the common shape, and nothing is summed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from ppl_vae.checks import Real, type_error
from ppl_vae.checks import name as known_name
from ppl_vae.closed_forms.numerics.special import HALF_LOG_TWO_PI
from ppl_vae.closed_forms.parts.gaussian_chain_guides import (
    BottomUp,
    TopDown,
    checked,
    elbo_bottom_up,
    elbo_top_down,
    optimal_bottom_up,
    optimal_top_down,
)

__all__ = [
    "BottomUp",
    "TopDown",
    "elbo",
    "elbo_bottom_up",
    "elbo_top_down",
    "log_evidence",
    "mean_field_bias",
    "optimal_bottom_up",
    "optimal_top_down",
    "posterior",
]

_GUIDES = {"bottom-up": BottomUp, "top-down": TopDown}


def log_evidence(x: Real) -> Tensor:
    """Return ``log p(x) = -log(6 pi)/2 - x^2/6``.

    Args:
        x: data of any shape, finite.

    Returns:
        Per element, the shape of `x`, in nats.

    Raises:
        TypeError: `x` is neither a number nor a floating-point tensor.
        ValueError: `x` is empty or not finite.

    Source:
        x = z2 + two independent standard Normals, so x ~ Normal(0, sqrt(3)).

    Example:
        >>> log_evidence(torch.tensor([0.0, 1.3]))
        tensor([-1.4682, -1.7499])
    """
    (x,) = checked(x=x)
    return (-HALF_LOG_TWO_PI - 0.5 * math.log(3) - x.double().square() / 6).to(x.dtype)


def posterior(x: Real) -> MultivariateNormal:
    """Return p(z1, z2 | x), a Normal with mean (2x/3, x/3) and covariance [[2, 1], [1, 2]] / 3.

    Args:
        x: data of any shape, finite.

    Returns:
        Batch shape that of `x`, event shape (2,): z1, then z2.

    Raises:
        TypeError: `x` is neither a number nor a floating-point tensor.
        ValueError: `x` is empty or not finite.

    Source:
        (z1, z2) has covariance [[2, 1], [1, 1]] in the model and x = z1 + noise of variance 1;
        covariance less its first column times the first row over 2 + 1.

    Example:
        >>> posterior(torch.tensor(3.0)).mean
        tensor([2., 1.])
    """
    (x,) = checked(x=x)
    mean = torch.stack([2 * x.double() / 3, x.double() / 3], dim=-1).to(x.dtype)
    scale_tril = x.new_tensor([[math.sqrt(2 / 3), 0.0], [math.sqrt(1 / 6), math.sqrt(1 / 2)]])
    one = MultivariateNormal(mean.new_zeros(2), scale_tril=scale_tril)
    result = cast(MultivariateNormal, one.expand(x.shape))
    result.loc = mean
    return result


def elbo(x: Real, *, guide: str = "bottom-up", **parameters: Real) -> Tensor:
    """Return the exact ELBO of either guide.

    `elbo_bottom_up` or `elbo_top_down`, chosen by name.

    Args:
        x: data of any shape, finite.
        guide: "bottom-up" or "top-down".
        **parameters: those of the chosen guide.

    Returns:
        Per element, the common shape of `x` and the parameters, in nats.

    Raises:
        TypeError: a parameter is missing or not one of this guide's, or an argument is neither a
            number nor a floating-point tensor.
        ValueError: unknown `guide`; or as the chosen function.

    Source:
        `elbo_bottom_up`, `elbo_top_down`.

    Example:
        >>> elbo(torch.tensor([1.3]), guide="bottom-up", a=0.6, s1=0.7, b=0.5, s2=0.8)
        tensor([-1.7936])
    """
    _require_parameters(guide, parameters)
    return (elbo_bottom_up if guide == "bottom-up" else elbo_top_down)(x, **parameters)


def mean_field_bias(x: Real = 0.0, *, guide: str = "bottom-up", **parameters: Real) -> Tensor:
    """Return the error of an ELBO with one analytic KL per site: ``-b s1^2``, bottom-up.

    Such an ELBO (Pyro's ``TraceMeanField_ELBO``) takes the KL of z1's guide to Normal(z2, 1) at a
    z2 that was drawn from that same z1, as if the two were independent. Its expectation is
    `elbo` plus this bias, which depends on neither x nor the intercepts. For the top-down guide it
    is 0: there z1 comes after z2 in guide and model alike.

    Args:
        x: data, as for `elbo`; only its shape matters.
        guide: "bottom-up" or "top-down".
        **parameters: those of the chosen guide, as for `elbo`. Only b and s1 of the bottom-up
            guide matter; the others may be left out.

    Returns:
        Per element, the common shape of all arguments, in nats: the estimator's expectation less
        the exact ELBO. Differentiable, as the gradient of the estimator is biased too.

    Raises:
        TypeError: b or s1 of the bottom-up guide is missing, a parameter is not one of this
            guide's, or an argument is neither a number nor a floating-point tensor.
        ValueError: unknown `guide`; empty data, a NaN or infinity, a scale not above 0, or shapes
            that do not broadcast.

    Source:
        The KL holds E(z1' - z2)^2 / 2 with z1' an independent copy of z1, where the ELBO has
        E(z1 - z2)^2 / 2. The KL is too large by Cov(z1, z2) = b s1^2.

    Example:
        >>> mean_field_bias(torch.tensor([1.3]), a=0.6, s1=0.7, b=0.5, s2=0.8)
        tensor([-0.2450])
    """
    needed = ("b", "s1") if guide == "bottom-up" else ()
    _require_parameters(guide, parameters, needed)
    names = ("x", *parameters)
    given = dict(zip(names, checked(x=x, **parameters), strict=True))
    zero = given["x"].new_zeros(torch.broadcast_shapes(*(t.shape for t in given.values())))
    if guide == "top-down":
        return zero
    covariance = given["b"].double() * given["s1"].double().square()
    return zero - covariance.to(zero.dtype)


def _require_parameters(
    guide: str, parameters: Iterable[str], needed: tuple[str, ...] | None = None
) -> None:
    record = _GUIDES[known_name("guide", guide, _GUIDES)]
    if needed is None:
        needed = tuple(f for f in record._fields if f not in record._field_defaults)
    missing = [field for field in needed if field not in parameters]
    unknown = [field for field in parameters if field not in record._fields]
    if missing or unknown:
        came = [f"no {field}" for field in missing] + [f"an unknown {u}" for u in unknown]
        raise type_error(
            f"the {guide} guide's parameters, {', '.join(needed) or 'none needed'}"
            f" (and if wanted {', '.join(f for f in record._fields if f not in needed)})",
            ", ".join(came),
            "Name them as the guide's formula does.",
        )
