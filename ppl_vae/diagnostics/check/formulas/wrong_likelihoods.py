"""Reconstruction terms and bounds that are met in place of the right ones."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ppl_vae.diagnostics.check.formulas.likelihoods import other_data, parts, wrong_formulas
from ppl_vae.diagnostics.check.truth import Terms, event_dims, mask_of, scored, summed
from ppl_vae.elbos.sites.closed_kl import base
from ppl_vae.elbos.sites.traces import Site

ALPHAS = (-1.0, 0.1, 0.25, 0.5, 0.75, 0.9, 2.0)
PARTICLES = (2, 3, 4, 5, 8, 10, 16, 20, 32, 50, 64, 100)


def likelihood_parts(right: Terms, blank: Tensor) -> dict[str, Tensor]:
    """Return what the log-likelihood is made of, where its family's parts are known."""
    found: dict[str, Tensor] = {}
    for site in right.model.values():
        if site["is_observed"]:
            for name, value in parts(base(site["fn"]), site["value"]).items():
                key = f"L:{name}"
                found[key] = found.get(key, blank) + scored(site, value, blank)
    return found


def likelihood_mistakes(right: Terms, blank: Tensor) -> dict[str, Tensor]:
    """Return other reconstruction terms that are met in place of the log-likelihood."""
    sites = [site for site in right.model.values() if site["is_observed"]]
    if len(sites) != 1:
        return {}
    (site,) = sites
    fn: Any = base(site["fn"])
    x, dims = site["value"], event_dims(site)
    each = wrong_formulas(fn, x)
    if x.dim() == dims + 1 and not fn.event_shape:  # examples first, each number by itself
        each |= other_data(fn, x, dims)
    found = {name: scored(site, value, blank) for name, value in each.items()}
    found |= _over_events(site, blank) | _with_padding(site, blank)
    return {f"L={name}": value for name, value in found.items()}


def _over_events(site: Site, blank: Tensor) -> dict[str, Tensor]:
    """Return what is not a sum over numbers: roots of mean squares, a softmax over pixels."""
    fn: Any = base(site["fn"])
    x, dims, kind = site["value"], event_dims(site), type(fn).__name__
    if kind not in ("Bernoulli", "Normal") or not dims or fn.event_shape:
        return {}
    each = summed(((x - fn.mean) ** 2).mean(list(range(-dims, 0))), blank, 0)
    batch = each.mean(-1, keepdim=True)
    found = {
        "the root of each example's mean squared error (RMSE)": -each.sqrt(),
        "the root of the batch's mean squared error (RMSE)": -batch.sqrt().expand(blank.shape),
    }
    if kind == "Bernoulli":
        soft = fn.logits.flatten(-dims).log_softmax(-1) * x.flatten(-dims)
        found["softmax over pixels"] = summed(soft, blank, 1)
    return found


def _with_padding(site: Site, blank: Tensor) -> dict[str, Tensor]:
    """Return sums that ignore the mask, and means over what it keeps."""
    mask = mask_of(site)
    if mask is None:
        return {}
    fn: Any = base(site["fn"])
    log_prob = fn.log_prob(site["value"])
    ones = torch.ones_like(log_prob)
    own, kept = scored(site, log_prob, blank), scored(site, ones, blank)
    every = scored(site, log_prob, blank, masked=False)
    over_batch = own.sum(-1, keepdim=True) / kept.sum(-1, keepdim=True).clamp_min(1)
    return {
        "the mask is forgotten: padding is counted": every,
        "what is masked is scored, and what is not is left out": every - own,
        "a mean over each example's unmasked positions, not their sum": own / kept.clamp_min(1),
        "a mean over the batch's unmasked positions, not a sum": over_batch.expand(blank.shape),
        "a mean over all positions with the mask forgotten": every
        / scored(site, ones, blank, masked=False),
    }


def bounds(right: Terms, num_particles: int) -> dict[str, Tensor]:
    """Return importance-weighted bounds, per example and over the whole batch at once."""
    total = right.total
    found: dict[str, Tensor] = {}
    for count in (num_particles,) if num_particles else PARTICLES:
        if not 2 <= count <= len(total) or (num_particles and len(total) % count):
            continue
        size = total.shape[1]
        rows = total[: len(total) // count * count].reshape(-1, count, size)
        each = {f"IWAE {count}": rows.logsumexp(1) - math.log(count)}
        batch = (rows.sum(-1).logsumexp(1) - math.log(count)) / size
        each[f"IWAE of the batch {count}"] = batch[:, None].expand(-1, size)
        if num_particles:
            for alpha in ALPHAS:
                powers = ((1 - alpha) * rows).logsumexp(1) - math.log(count)
                each[f"Renyi {alpha:g} {count}"] = powers / (1 - alpha)
            each |= _wrong_bounds(right, rows, count)
            likelihood = right.likelihood.reshape(rows.shape)
            each["L=mean over particles"] = likelihood.logsumexp(1) - math.log(count)
        for name, value in each.items():
            filled = value.repeat_interleave(count, 0)
            rest = filled.mean(0, keepdim=True).expand(len(total) - len(filled), -1)
            found[name] = torch.cat([filled, rest])
    return found


def _wrong_bounds(right: Terms, rows: Tensor, count: int) -> dict[str, Tensor]:
    """Return bounds of several particles with a term's sign or place wrong."""
    log_q, log_p = -sum(right.entropy.values()), sum(right.prior.values())  # pyright: ignore
    wrong = {
        "the sign of log q is wrong in its weights": 2 * log_q,
        "log q is left out of its weights": log_q,
        "log p(z) is left out of its weights": -log_p,
        "the sign of log p(z) is wrong in its weights": -2 * log_p,
        "log p(x | z) is left out of its weights": -right.likelihood,
    }
    found = {}
    for words, change in wrong.items():
        changed = rows + change.reshape(rows.shape)
        found[f"bound=importance-weighted, {words}"] = changed.logsumexp(1) - math.log(count)
    size = rows.shape[-1]
    over_batch = rows.logsumexp(-1).mean(-1)[:, None].expand(-1, size)
    words = "its logsumexp runs over the batch, not over the particles"
    found[f"bound={words}, less log {count} (the particles)"] = over_batch - math.log(count)
    found[f"bound={words}, less the log of the batch size"] = over_batch - math.log(size)
    return found
