"""Reconstruction terms and bounds that are met in place of the right ones."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ppl_vae.diagnostics.check.terms import Terms
from ppl_vae.elbos.closed_kl import base
from ppl_vae.elbos.traces import Site

ALPHAS = (-1.0, 0.1, 0.25, 0.5, 0.75, 0.9, 2.0)
PARTICLES = (2, 3, 4, 5, 8, 10, 16, 20, 32, 50, 64, 100)


def summed(value: Tensor, blank: Tensor, dims: int) -> Tensor:
    """Return numbers summed over event dimensions, (particles, examples)."""
    value = value.sum(list(range(-dims, 0))) if dims else value
    if value.dim() < 2:
        value = value.unsqueeze(0) if value.shape == blank.shape[1:] else value.reshape(-1, 1)
    return value.expand(blank.shape) if value.shape != blank.shape else value


def event_dims(site: Site) -> int:
    """Return how many dimensions of a site's value belong to one example."""
    return len(site["fn"].event_shape)


def likelihood_parts(right: Terms, blank: Tensor) -> dict[str, Tensor]:
    """Return what the log-likelihood of Bernoulli or Normal data is made of."""
    found: dict[str, Tensor] = {}
    for site in right.model.values():
        if not site["is_observed"]:
            continue
        fn: Any = base(site["fn"])
        x, dims, kind = site["value"], event_dims(site), type(fn).__name__
        parts: dict[str, Tensor] = {}
        if kind == "Bernoulli":
            parts["L:ones"] = -x * F.softplus(-fn.logits)
            parts["L:zeros"] = -(1 - x) * F.softplus(fn.logits)
        elif kind == "Normal":
            gap = (x - fn.loc) / fn.scale
            parts["L:squares"] = -0.5 * gap**2
            parts["L:log"] = (-fn.scale.log()).expand(gap.shape)
        for name, value in parts.items():
            found[name] = found.get(name, blank) + summed(value, blank, dims)
    return found


def likelihood_mistakes(right: Terms, blank: Tensor) -> dict[str, Tensor]:
    """Return other reconstruction terms that are met in place of the log-likelihood."""
    found: dict[str, Tensor] = {}
    sites = [site for site in right.model.values() if site["is_observed"]]
    if len(sites) != 1:
        return found
    site = sites[0]
    fn: Any = base(site["fn"])
    x, dims, kind = site["value"], event_dims(site), type(fn).__name__
    if kind == "Bernoulli":
        p = torch.sigmoid(fn.logits)
        high, low = torch.log(x).clamp_min(-100), torch.log1p(-x).clamp_min(-100)
        found = {
            "sigmoid twice": x * F.logsigmoid(p) + (1 - x) * F.logsigmoid(-p),
            "squared error": -((x - p) ** 2),
            "squared error of logits": -((x - fn.logits) ** 2),
            "absolute error": -(x - p).abs(),
            "arguments swapped": p * high + (1 - p) * low,
            "colours inverted": (1 - x) * F.logsigmoid(fn.logits) + x * F.logsigmoid(-fn.logits),
            "probability": -((1 - x) - p).abs(),
            "its decoder gives probabilities, which the pair takes for logits "
            "(decoder_output='probs'?)": _of_probabilities(fn.logits, x),
        }
        flat = fn.logits.flatten(-dims) if dims else fn.logits
        if dims:
            soft = flat.log_softmax(-1) * x.flatten(-dims)
            found["softmax over pixels"] = soft.reshape(fn.logits.shape)
    elif kind == "Normal":
        loc, scale = fn.loc.expand(torch.broadcast_shapes(fn.loc.shape, x.shape)), fn.scale
        found = {
            "absolute error": -(x - loc).abs(),
            "loc through a sigmoid": -0.5 * ((x - loc.sigmoid()) / scale) ** 2 - scale.log(),
            "loc through tanh": -0.5 * ((x - loc.tanh()) / scale) ** 2 - scale.log(),
            "squared error, scale left out": -((x - loc) ** 2),
            "scale as variance": -0.5 * (x - loc) ** 2 / scale - 0.5 * scale.log(),
            "scale squared": -0.5 * ((x - loc) / scale**2) ** 2 - 2 * scale.log(),
            "not squared scale": -0.5 * (x - loc) ** 2 / scale - scale.log(),
            "cross-entropy": x * F.logsigmoid(loc) + (1 - x) * F.logsigmoid(-loc),
        }
    if kind in ("Bernoulli", "Normal"):
        found["another example's data"] = fn.log_prob(x.roll(1, 0))
        each = (fn.log_prob(x.roll(shift, 0)) for shift in range(len(x)))
        found["every example is compared with every reconstruction (a broadcast?)"] = sum(
            each, torch.zeros_like(fn.log_prob(x))
        ) / len(x)
    return {f"L={name}": summed(value, blank, dims) for name, value in found.items()}


def _of_probabilities(p: Tensor, x: Tensor) -> Tensor:
    edge = torch.finfo(p.dtype).eps
    p = p.clamp(edge, 1 - edge)
    return x * p.log() + (1 - x) * (-p).log1p()


def bounds(right: Terms, num_particles: int) -> dict[str, Tensor]:
    """Return importance-weighted bounds, per example and over the whole batch at once."""
    total = right.total
    found: dict[str, Tensor] = {}
    for count in (num_particles,) if num_particles else PARTICLES:
        if count < 2 or len(total) % count and num_particles:
            continue
        rows = total[: len(total) // count * count].reshape(-1, count, total.shape[1])
        if len(rows) == 0:
            continue
        each = {f"IWAE {count}": rows.logsumexp(1) - math.log(count)}
        whole = (rows.sum(-1).logsumexp(1) - math.log(count)) / total.shape[1]
        each[f"IWAE of the batch {count}"] = whole[:, None].expand(-1, total.shape[1])
        if num_particles:
            for alpha in ALPHAS:
                powers = ((1 - alpha) * rows).logsumexp(1) - math.log(count)
                each[f"Renyi {alpha:g} {count}"] = powers / (1 - alpha)
            likelihood = right.likelihood[: len(rows) * count].reshape(rows.shape)
            each["L=mean over particles"] = likelihood.logsumexp(1) - math.log(count)
        for name, value in each.items():
            filled = value.repeat_interleave(count, 0)
            rest = filled.mean(0, keepdim=True).expand(len(total) - len(filled), -1)
            found[name] = torch.cat([filled, rest])
    return found
