"""The linear Gaussian model with a mixture of Normals as its prior.

    p(z) = sum_c w_c Normal(m_c, diag(s_c)^2)        p(x | z) = Normal(W z + b, s I_d)

Given the component, z = m_c + s_c u with u ~ Normal(0, I_k), which is the model of
`ppl_vae.closed_forms.linear_gaussian` with the weight W diag(s_c) and the loc b + W m_c. So the
evidence is the mixture of those evidences, and the posterior that of those posteriors, weighted by
w_c p(x | c). Everything is computed in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from ppl_vae import checks
from ppl_vae.checks import Real, positive
from ppl_vae.closed_forms import linear_gaussian

__all__ = ["log_evidence", "posterior"]


def log_evidence(
    x: Tensor,
    weight: Tensor,
    loc: Real,
    noise_scale: Real,
    *,
    logits: Tensor,
    component_loc: Tensor,
    component_scale: Tensor,
) -> Tensor:
    """Return log p(x) = log sum_c w_c Normal(x; b + W m_c, W diag(s_c)^2 W' + s^2 I).

    Args:
        x: data, (*batch, d).
        weight: W, (d, k); any k from 1.
        loc: b, (d,) or one number.
        noise_scale: s, one number above 0.
        logits: log w up to a constant, (components,).
        component_loc: m, (components, k).
        component_scale: s_c, standard deviations above 0, (components, k).

    Returns:
        Per example, (*batch), in nats; summed over the d dimensions.

    Raises:
        TypeError: an argument is not a floating-point tensor (or number, where one will do).
        ValueError: wrong shapes, no data, a NaN or infinity, or a scale not above 0.

    Source:
        The sum over the components of the joint density.

    Example:
        >>> x, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0], [0.0]])
        >>> one = {"component_loc": torch.zeros(1, 1), "component_scale": torch.ones(1, 1)}
        >>> log_evidence(x, weight, 0.0, 1.0, logits=torch.zeros(1), **one)
        tensor([-4.4345])
    """
    parts = _components(x, weight, loc, noise_scale, logits, component_loc, component_scale)
    return _log_joint(parts, logits).logsumexp(-1).to(x.dtype)


def posterior(
    x: Tensor,
    weight: Tensor,
    loc: Real,
    noise_scale: Real,
    *,
    logits: Tensor,
    component_loc: Tensor,
    component_scale: Tensor,
) -> MixtureSameFamily:
    """Return p(z | x), a mixture of correlated Normals.

    The weight of component c is w_c p(x | c) / p(x); within it, z = m_c + s_c u with u from the
    posterior of the linear Gaussian model.

    Args:
        x: data, (*batch, d).
        weight: W, (d, k); any k from 1.
        loc: b, (d,) or one number.
        noise_scale: s, one number above 0.
        logits: log w up to a constant, (components,).
        component_loc: m, (components, k).
        component_scale: s_c, standard deviations above 0, (components, k).

    Returns:
        Batch shape (*batch), event shape (k,).

    Raises:
        TypeError: an argument is not a floating-point tensor (or number, where one will do).
        ValueError: wrong shapes, no data, a NaN or infinity, or a scale not above 0.

    Example:
        >>> two = {"component_loc": torch.tensor([[-3.0], [3.0]])}
        >>> two |= {"component_scale": torch.ones(2, 1), "logits": torch.zeros(2)}
        >>> p = posterior(torch.zeros(1, 1), torch.ones(1, 1), 0.0, 1.0, **two)
        >>> p.mixture_distribution.probs, p.component_distribution.mean
        (tensor([[0.5000, 0.5000]]), tensor([[[-1.5000],
                 [ 1.5000]]]))
    """
    parts = _components(x, weight, loc, noise_scale, logits, component_loc, component_scale)
    means, factors = [], []
    for (numbers, *model), centre, scale in zip(
        parts, component_loc.double(), component_scale.double(), strict=True
    ):
        found = linear_gaussian.posterior(numbers, *model)
        means.append(centre + scale * found.loc)
        one = found.scale_tril[(0,) * (numbers.dim() - 1)]  # the same for all examples
        factors.append(scale.unsqueeze(-1) * one)
    mean, factor = torch.stack(means, -2).to(x.dtype), torch.stack(factors).to(x.dtype)
    shares = Categorical(logits=_log_joint(parts, logits).to(x.dtype))
    return MixtureSameFamily(shares, MultivariateNormal(mean, scale_tril=factor))


Part = tuple[Tensor, Tensor, Tensor, Tensor]


def _components(
    x: Tensor,
    weight: Tensor,
    loc: Real,
    noise_scale: Real,
    logits: Tensor,
    component_loc: Tensor,
    component_scale: Tensor,
) -> list[Part]:
    """Return x, W diag(s_c), b + W m_c and s in float64 for each component."""
    for name, value in (("x", x), ("weight", weight), ("logits", logits)):
        checks.finite(name, checks.floating(name, value))
    checks.finite("component_loc", checks.floating("component_loc", component_loc))
    positive("component_scale", checks.floating("component_scale", component_scale))
    shape = (*logits.shape, *weight.shape[1:])
    if logits.dim() != 1 or not (component_loc.shape == component_scale.shape == shape):
        raise checks.value_error(
            "logits (components,), component_loc and component_scale (components, k), "
            "with k the columns of weight",
            f"{tuple(logits.shape)}, {tuple(component_loc.shape)}, "
            f"{tuple(component_scale.shape)}, k = {weight.shape[-1]}",
            "Pass one row for each component.",
        )
    x, w = x.double(), weight.double()
    b, s = (torch.as_tensor(v, device=x.device).double() for v in (loc, noise_scale))
    rows = zip(component_loc.double(), component_scale.double(), strict=True)
    return [(x, w * scale, (b + w @ centre), s) for centre, scale in rows]


def _log_joint(parts: list[Part], logits: Tensor) -> Tensor:
    """Return log w_c p(x | c), (*batch, components)."""
    each = torch.stack([linear_gaussian.log_evidence(*part) for part in parts], -1)
    return each + logits.double().log_softmax(-1)
