"""Values of the latents as the prior would draw them, from noise held fixed."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import Delta, MaskedDistribution
from torch import Tensor
from torch.distributions import (
    Cauchy,
    Exponential,
    Independent,
    Laplace,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
)

from ppl_vae import checks
from ppl_vae.elbos.sites.closed_kl import base
from ppl_vae.elbos.sites.draws import Draw
from ppl_vae.elbos.sites.traces import latent_sites
from ppl_vae.flows import FlowDistribution


def redrawn(draw: Draw) -> dict[str, Tensor]:
    """Return the latents of the model, in its order, as functions of the prior's parameters.

    Each equals the value that the guide drew: the noise from which the prior would have drawn it
    is found and held fixed. It depends on the leaves of the latents drawn before it too.

    Raises:
        NotImplementedError: a prior with parameters whose draws are no function of noise, or whose
            support is not the guide's.
    """
    in_guide = latent_sites(draw.guide)
    found = {}
    for name, site in latent_sites(draw.model).items():
        prior, value = site["fn"], site["value"].detach()
        found[name] = _redraw(name, prior, value)
        if found[name].requires_grad:
            _check_support(name, prior, in_guide[name]["fn"])
    return found


def _redraw(name: str, fn: Any, value: Tensor) -> Tensor:  # noqa: ANN401
    if isinstance(fn, (Independent, MaskedDistribution)):
        return _redraw(name, fn.base_dist, value)
    if isinstance(fn, (Normal, Laplace, Cauchy)):
        return fn.loc + fn.scale * ((value - fn.loc) / fn.scale).detach()
    if isinstance(fn, Exponential):
        return (value * fn.rate).detach() / fn.rate
    if isinstance(fn, MultivariateNormal):
        factor, difference = fn.scale_tril, (value - fn.loc).unsqueeze(-1)
        noise = torch.linalg.solve_triangular(factor, difference, upper=False).detach()
        return fn.loc + (factor @ noise).squeeze(-1)
    if isinstance(fn, FlowDistribution):
        drawn = _redraw(name, fn.flow.base, fn.noise(value).detach())
        return fn.at(drawn)
    if isinstance(fn, TransformedDistribution):
        transforms: list[Any] = fn.transforms
        for transform in reversed(transforms):
            value = transform.inv(value)
        drawn = _redraw(name, fn.base_dist, value.detach())
        for transform in transforms:
            drawn = transform(drawn)
        return drawn
    if fn.log_prob(value).requires_grad:
        raise checks.not_implemented(
            f"a prior at site {name!r} whose draws are a function of noise, for its parameters",
            type(fn).__name__,
            "Choose 'dreg', which takes the prior's score, or hold its parameters fixed.",
        )
    return value


def _check_support(name: str, prior: Any, guide: Any) -> None:  # noqa: ANN401
    # Where the guide's density ends within the prior's support, the rewritten score is another.
    if isinstance(base(guide), Delta):
        came = "a Delta, whose density is that of another site"
    else:
        there, here = (str(fn.support).replace("Eq", "") for fn in (prior, guide))
        if there == here:
            return
        came = f"the prior's is {there}, the guide's {here}"
    raise checks.not_implemented(
        f"a guide at site {name!r} with the support of the learned prior", came, "Choose 'dreg'."
    )
