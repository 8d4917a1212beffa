"""Formulas with a number in them that are met in place of a term: a floor, a clamp, a factor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli, Normal

from ppl_vae.diagnostics.check.truth import Terms, event_dims, latent_sites_of, summed
from ppl_vae.elbos.sites.closed_kl import base, registered_kl

Change = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class Family:
    """One formula with a number in it.

    Attributes:
        role: ``KL`` or ``L``: what it stands for.
        column: from the right terms and the number to the column, (particles, examples).
        low: the least number that is tried.
        high: the largest.
        message: what the objective then does; ``{}`` is the number.
        free: whether the weight has no right value.
    """

    role: str
    column: Callable[[Terms, float], Tensor]
    low: float
    high: float
    message: str
    free: bool = False


def families(right: Terms) -> list[Family]:
    """Return the families that a program's distributions allow."""
    found = []
    latents = latent_sites_of(right.guide)
    sites = chain(latents.values(), (right.model[name] for name in latents))
    if all(type(base(site["fn"])).__name__ == "Normal" for site in sites):
        found += _KL_FAMILIES if len(latents) == 1 else _of_layers(latents)
    observed = [s for s in right.model.values() if s["is_observed"]]
    if len(observed) == 1:
        found += _LIKELIHOODS.get(type(base(observed[0]["fn"])).__name__, [])
    return found


def _of_layers(latents: Iterable[str]) -> Iterator[Family]:
    """Yield floors and ceilings of one layer's KL among several."""
    for name in latents:
        for change, verb in ((torch.clamp_min, "kept"), (torch.clamp_max, "cut off")):
            for by_dimension, what in ((True, "each dimension's"), (False, "each example's")):
                message = f"{what} KL of the layer {name} is {verb} above {{}} nats."
                column = partial(_by_layer, name, change, by_dimension)
                yield Family("KL", column, 1e-2, 100.0, message)


# Each function below makes a family's column, (particles, examples), when all of its arguments
# but the right terms and the number are given.


def _by_layer(
    name: str,
    change: Change,
    by_dimension: bool,  # noqa: FBT001
    right: Terms,
    number: float,
) -> Tensor:
    """Return the KLs of all layers, with a function of one layer's closed KL."""
    blank = torch.zeros_like(right.likelihood)
    total = blank
    for each, site in latent_sites_of(right.guide).items():
        if each == name:
            kl = registered_kl(base(site["fn"]), base(right.model[name]["fn"]))
            kl = change(kl, number) if by_dimension else kl
            layer = summed(kl.expand(site["value"].shape), blank, event_dims(site))
            total = total - (layer if by_dimension else change(layer, number))
        else:
            total = total + right.prior_closed.get(each, right.prior[each])
            total = total + right.entropy_closed.get(each, right.entropy[each])
    return total


def _by_dimension(
    change: Change, right: Terms, number: float, *, of_scale: bool = False
) -> Tensor:
    """Return the closed KL with each dimension's part, or the guide's scale, changed."""
    ((name, site),) = latent_sites_of(right.guide).items()
    q: Any = base(site["fn"])
    if of_scale:
        q = Normal(q.loc, change(q.scale, number), validate_args=False)
    kl = registered_kl(q, base(right.model[name]["fn"]))
    kl = kl if of_scale else change(kl, number)
    blank = torch.zeros_like(right.likelihood)
    return -summed(kl.expand(site["value"].shape), blank, event_dims(site))


_of_scale = partial(_by_dimension, of_scale=True)


def _by_example(change: Change, right: Terms, number: float) -> Tensor:
    """Return a function of each example's closed KL."""
    _, prior, entropy = right.three()
    return -change(-(prior + entropy), number).expand(right.likelihood.shape)


def _mean_floored(kl: Tensor, floor: float) -> Tensor:
    return kl.mean(-2, keepdim=True).clamp_min(floor).expand(kl.shape)


def _likelihood(
    change: Callable[[Any, Tensor, float], Tensor], right: Terms, number: float
) -> Tensor:
    """Return another log-density of the data's distribution."""
    site = next(s for s in right.model.values() if s["is_observed"])
    value = change(base(site["fn"]), site["value"], number)
    return summed(value, torch.zeros_like(right.likelihood), event_dims(site))


def _log_with(fn: Any, x: Tensor, epsilon: float) -> Tensor:  # noqa: ANN401
    p = fn.logits.sigmoid()
    return x * (p + epsilon).log() + (1 - x) * (1 - p + epsilon).log()


def _clamped(fn: Any, x: Tensor, edge: float) -> Tensor:  # noqa: ANN401
    p = fn.logits.sigmoid().clamp(edge, 1 - edge)
    return x * p.log() + (1 - x) * (-p).log1p()


def _scaled(fn: Any, x: Tensor, factor: float) -> Tensor:  # noqa: ANN401
    return Bernoulli(logits=factor * fn.logits, validate_args=False).log_prob(x)


def _huber(fn: Any, x: Tensor, delta: float) -> Tensor:  # noqa: ANN401
    error = (x - fn.loc) / fn.scale
    loss = F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)
    return -loss - fn.scale.log() - 0.5 * math.log(2 * math.pi)


def _smooth_l1(fn: Any, x: Tensor, edge: float) -> Tensor:  # noqa: ANN401
    loc = fn.loc.expand(torch.broadcast_shapes(fn.loc.shape, x.shape))
    return -F.smooth_l1_loss(loc, x.expand(loc.shape), reduction="none", beta=edge)


_KL_FAMILIES = [
    Family("KL", partial(_by_dimension, torch.clamp_min), 1e-3, 10.0,
           "each latent dimension's KL is kept above {} nats (free bits): a looser bound."),
    Family("KL", partial(_by_dimension, _mean_floored), 1e-3, 10.0,
           "each latent dimension's mean KL over the batch is kept above {} nats (free bits): "
           "a looser bound."),
    Family("KL", partial(_by_example, torch.clamp_min), 1e-2, 100.0,
           "each example's KL is kept above {} nats (free bits): a looser bound."),
    Family("KL", partial(_by_dimension, torch.clamp_max), 1e-2, 50.0,
           "each latent dimension's KL is cut off above {} nats."),
    Family("KL", partial(_by_example, torch.clamp_max), 1e-2, 100.0,
           "each example's KL is cut off above {} nats."),
    Family("KL", partial(_by_example, lambda kl, c: (kl - c).abs()), 1e-2, 100.0,
           "the KL enters as |KL - {}|, a capacity (beta-VAE with a target).", free=True),
    Family("KL", partial(_of_scale, lambda s, c: s.log().clamp(-c / 2, c / 2).exp()), 0.05, 20.0,
           "the KL takes a log-variance clamped to (-{0}, {0})."),
    Family("KL", partial(_of_scale, lambda s, c: s.log().clamp_min(-c / 2).exp()), 0.05, 20.0,
           "the KL takes a log-variance clamped from below at -{}."),
    Family("KL", partial(_of_scale, lambda s, c: s.log().clamp_max(c / 2).exp()), 0.05, 20.0,
           "the KL takes a log-variance clamped from above at {}."),
    Family("KL", partial(_of_scale, lambda s, c: s + c), 1e-4, 1.0,
           "the KL takes scale + {} where the guide has its scale: an epsilon?"),
    Family("KL", partial(_of_scale, lambda s, c: (s**2 + c).sqrt()), 1e-4, 1.0,
           "the KL takes the variance + {} where the guide has its own: an epsilon?"),
    Family("KL", partial(_of_scale, lambda s, c: c * s), 0.05, 20.0,
           "the KL takes {} times the guide's scale."),
]  # fmt: skip
_LIKELIHOODS = {
    "Bernoulli": [
        Family("L", partial(_likelihood, _log_with), 1e-6, 0.5,
               "the cross-entropy has an epsilon of {} inside of its logarithms: too large."),
        Family("L", partial(_likelihood, _clamped), 1e-6, 0.4,
               "the cross-entropy's probabilities are clamped to ({0}, 1 - {0})."),
        Family("L", partial(_likelihood, _scaled), 0.05, 20.0,
               "the cross-entropy takes {} times the decoder's logits: a temperature?"),
    ],
    "Normal": [
        Family("L", partial(_likelihood, _huber), 0.05, 20.0,
               "the squared error, in units of the scale, is a Huber loss with delta {}."),
        Family("L", partial(_likelihood, _smooth_l1), 0.01, 20.0,
               "the reconstruction term is a smooth L1 (Huber) loss with beta {}, with no scale.",
               free=True),
    ],
}  # fmt: skip
