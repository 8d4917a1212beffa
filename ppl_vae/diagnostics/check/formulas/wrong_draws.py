"""The right terms at draws of z that are made in a wrong way, or with a wrong scale."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ppl_vae.diagnostics.check.objective import Transform
from ppl_vae.diagnostics.check.settings import Draws
from ppl_vae.diagnostics.check.truth import Terms, event_dims, summed
from ppl_vae.elbos.closed_kl import base
from ppl_vae.elbos.traces import Site

# The logit from which clamped probabilities and logits give other cross-entropies.
FAR = 12.0
LOG_2PI = math.log(2 * math.pi)
# Ways in which what a network returns is taken for a scale; the right one is left out.
SCALES: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "squared": (torch.square, "scale^2 (a log-variance used as a log-scale?)"),
    "root": (torch.sqrt, "sqrt(scale) (a log-scale used as a log-variance?)"),
    "log": (torch.log, "log(scale) (a log-scale used as a scale?)"),
    "log-variance": (lambda s: 2 * torch.log(s), "log(scale^2) (a log-variance used as a scale?)"),
    "exp": (torch.exp, "exp(scale) (exponentiated twice?)"),
    "softplus": (lambda s: F.softplus(torch.log(s)), "softplus(log(scale)) in place of scale"),
    "inverse": (torch.reciprocal, "1 / scale (a precision for a scale, or a sign?)"),
    "unit": (torch.ones_like, "1 (the guide's scale is left out?)"),
}
NOISES = {"sqrt(2)": 2**0.5} | {f"{c:g}": c for c in (0.01, 0.1, 0.2, 0.3, 0.5, 0.7, 1.5, 2.0)}
# One number of noise for several, (particles, examples, dimensions) each.
SHARES: dict[str, tuple[Transform, str]] = {
    "shared": (
        lambda fn, noise: fn.loc + fn.scale * noise[..., :1].expand(noise.shape),
        "one number of noise an example is shared by all latent dimensions.",
    ),
    "shared by all": (
        lambda fn, noise: fn.loc + fn.scale * noise[..., :1, :1].expand(noise.shape),
        "one number of noise is shared by the whole batch and all latent dimensions.",
    ),
}


def wrongly_drawn(draws: Draws, name: str, transform: Transform) -> dict[str, Tensor]:
    """Return the terms' columns at draws that are made in another way from the same noise.

    Args:
        draws: whose noise is known.
        name: of the way, in the columns' names.
        transform: from a site's base distribution and its noise to the draw.
    """
    assert draws.again is not None
    other = draws.again(transform)
    return {
        f"far@{name}": _is_far(other),
        f"L@{name}": other.likelihood,
        f"Ps@{name}": sum(other.prior.values()),  # pyright: ignore[reportReturnType]
        f"Hs@{name}": sum(other.entropy.values()),  # pyright: ignore[reportReturnType]
    }


def _is_far(other: Terms) -> Tensor:
    """Return 1 where a pixel's logit is so far from 0 that float32 probabilities say nothing."""
    far = torch.zeros_like(other.likelihood)
    for site in other.model.values():
        fn: Any = base(site["fn"])
        if site["is_observed"] and type(fn).__name__ == "Bernoulli":
            far = far + summed((fn.logits.abs() > FAR).to(far), far, event_dims(site))
    return (far > 0).to(far)


def shared_noise(draws: Draws) -> dict[str, Tensor]:
    """Return the columns of all ways to share a number of noise."""
    found: dict[str, Tensor] = {}
    for name, (way, _) in SHARES.items():
        found |= wrongly_drawn(draws, name, way)
    return found


def wrong_draws(
    draws: Draws,
    latents: dict[str, Site],
    priors: dict[str, Site],
    blank: Tensor,
    *,
    drawn: bool,
) -> dict[str, Tensor]:
    """Return columns with another scale or another way to draw, for Normal latents and priors.

    Args:
        draws: the draws; where their noise is known, z is drawn again from it.
        latents: sites of the guide.
        priors: the same sites of the model.
        blank: zeros, (particles, examples).
        drawn: whether to try all ways to draw, each a pass through the model.
    """
    found: dict[str, Tensor] = {}
    for name, (change, _) in SCALES.items():
        prior, entropy = _closed(latents, priors, lambda m, s, f=change: (m, f(s)), blank)
        found |= {f"P@{name}": prior, f"H@{name}": entropy}
    prior, entropy = _closed(latents, priors, lambda m, s: (2 * s.log(), (m / 2).exp()), blank)
    found |= {"P@order": prior, "H@order": entropy}
    if draws.again is None:
        return found
    found |= wrongly_drawn(draws, "noise 0", lambda fn, noise: fn.loc + 0 * noise)
    if not drawn:
        return found
    for name, (change, _) in SCALES.items():
        found |= wrongly_drawn(
            draws, name, lambda fn, noise, f=change: fn.loc + f(fn.scale) * noise
        )
        found[f"~P@{name}"] = found[f"Ps@{name}"] - found[f"P@{name}"]
    ways: dict[str, Transform] = {
        f"noise {name}": lambda fn, noise, c=factor: fn.loc + fn.scale * (c * noise)
        for name, factor in NOISES.items()
    }
    ways["uniform"] = lambda fn, noise: fn.loc + fn.scale * torch.rand_like(noise)
    ways["swapped"] = lambda fn, noise: fn.loc * noise + fn.scale
    ways["order"] = lambda fn, noise: 2 * fn.scale.log() + (fn.loc / 2).exp() * noise
    ways["prior"] = lambda fn, noise: noise + 0 * fn.loc
    ways["clamped"] = lambda fn, noise: fn.loc + fn.scale * noise.clamp(-1, 1)
    if all(event_dims(site) == 1 for site in latents.values()):
        found |= shared_noise(draws)
    for name, way in ways.items():
        found |= wrongly_drawn(draws, name, way)
    return found


def _closed(
    latents: dict[str, Site],
    priors: dict[str, Site],
    change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    blank: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return log-prior and entropy in closed form with another loc and scale of the guide."""
    prior, entropy = blank.clone(), blank.clone()
    for name, site in latents.items():
        q: Any = base(site["fn"])
        p: Any = base(priors[name]["fn"])
        loc, scale = change(q.loc, q.scale)
        own = 0.5 * (1 + LOG_2PI) + scale.log()
        cross = -0.5 * (((loc - p.loc) / p.scale) ** 2 + (scale / p.scale) ** 2 + LOG_2PI)
        entropy = entropy + summed(own.expand(site["value"].shape), blank, event_dims(site))
        cross = (cross - p.scale.log()).expand(site["value"].shape)
        prior = prior + summed(cross, blank, event_dims(site))
    return prior, entropy
