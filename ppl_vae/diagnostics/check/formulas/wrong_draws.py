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
from ppl_vae.elbos.sites.closed_kl import base
from ppl_vae.elbos.sites.traces import Site

# The logit from which clamped probabilities and logits give other cross-entropies.
FAR = 12.0
LOG_2PI = math.log(2 * math.pi)
# From the guide's loc and scale to others.
Change = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
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
SHARED = ("shared", "shared by all")
# Wrong ways from a site's base distribution and noise, (particles, examples, dimensions), to the
# draw, in the order in which they are drawn.
WAYS: dict[str, Transform] = {
    "shared": lambda fn, noise: fn.loc + fn.scale * noise[..., :1].expand(noise.shape),
    "shared by all": lambda fn, noise: fn.loc + fn.scale * noise[..., :1, :1].expand(noise.shape),
    **{
        f"noise {name}": lambda fn, noise, c=factor: fn.loc + fn.scale * (c * noise)
        for name, factor in NOISES.items()
    },
    "uniform": lambda fn, noise: fn.loc + fn.scale * torch.rand_like(noise),
    "swapped": lambda fn, noise: fn.loc * noise + fn.scale,
    "order": lambda fn, noise: 2 * fn.scale.log() + (fn.loc / 2).exp() * noise,
    "prior": lambda fn, noise: noise + 0 * fn.loc,
    "clamped": lambda fn, noise: fn.loc + fn.scale * noise.clamp(-1, 1),
}
# What an objective does that draws so, in the order in which the ways are tried.
DRAWN = {
    "noise 0": "z is the guide's mean: no noise is added.",
    **{f"noise {c}": f"z is drawn with noise of scale {c} instead of 1." for c in NOISES},
    "rate": "z is drawn with the guide's rate taken for its scale.",
    "uniform": "z is drawn with noise that is uniform on (0, 1), not Normal: rand for randn?",
    "swapped": "z is drawn as scale + loc noise: loc and scale swapped in the draw.",
    "clamped": "z is drawn with noise that is clamped to (-1, 1).",
    "prior": "z is drawn from the prior (or standard noise), not from the guide.",
    "unit": "z is loc + noise: the guide's scale is left out of the draw.",
    "shared": "one number of noise an example is shared by all latent dimensions.",
    "shared by all": "one number of noise is shared by the whole batch and all latent dimensions.",
    "order": "what the encoder gives is taken in the other order: (log-variance, loc).",
}


def wrongly_drawn(draws: Draws, name: str, transform: Transform) -> dict[str, Tensor]:
    """Return the terms' columns at draws that are made in another way from the same noise."""
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
    """Return the columns of all ways to share one number of noise."""
    found: dict[str, Tensor] = {}
    for name in SHARED:
        found |= wrongly_drawn(draws, name, WAYS[name])
    return found


def wrong_draws(
    draws: Draws, latents: dict[str, Site], priors: dict[str, Site], blank: Tensor, *, drawn: bool
) -> dict[str, Tensor]:
    """Return columns with another scale or another way to draw, for Normal latents and priors.

    Where the noise of `draws` is known, z is drawn again from it: in all ways, each a pass
    through the model, if `drawn`.
    """
    found: dict[str, Tensor] = {}
    changes: dict[str, Change] = {"order": lambda m, s: (2 * s.log(), (m / 2).exp())}
    for name, (change, _) in SCALES.items():
        changes[name] = lambda m, s, f=change: (m, f(s))
    for name, change in changes.items():
        found[f"P@{name}"], found[f"H@{name}"] = _closed(latents, priors, change, blank)
    if draws.again is None:
        return found
    ways: dict[str, Transform] = {"noise 0": lambda fn, noise: fn.loc + 0 * noise}
    if drawn:
        for name, (change, _) in SCALES.items():
            ways[name] = lambda fn, noise, f=change: fn.loc + f(fn.scale) * noise
        by_dimension = all(event_dims(site) == 1 for site in latents.values())
        ways |= {n: way for n, way in WAYS.items() if by_dimension or n not in SHARED}
    for name, way in ways.items():
        found |= wrongly_drawn(draws, name, way)
        if name in SCALES:
            found[f"~P@{name}"] = found[f"Ps@{name}"] - found[f"P@{name}"]
    return found


def _closed(
    latents: dict[str, Site],
    priors: dict[str, Site],
    change: Change,
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
