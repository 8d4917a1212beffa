"""How far parameters may be perturbed before float32, or a clamp, fails a right objective."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ppl_vae.diagnostics.check.truth import Terms
from ppl_vae.elbos.sites.closed_kl import base

# Probabilities of larger logits have lost their digits.
LOGIT = 8.0
# A log-variance that is clamped at 10 meets its clamp at a log-scale of 5.
LOG_SCALE = 4.5
# Beyond this log-scale a LogisticNormal draws from corners that are cut off.
LOG_STICK = 1.0
# float32 rounds many draws of a Beta to 1 if a concentration is below 1/2. That shifts the mean of
# its log-density.
LOG_CONCENTRATION = math.log(2.0)
# A rarer value of a discrete latent may be missing from all draws, which then show no noise.
LOG_RARE = 3.5
LIMITS = torch.tensor([LOGIT, LOG_SCALE, LOG_CONCENTRATION, LOG_RARE], dtype=torch.float64)
# The factor by which a pair that is beyond a limit may go further.
FURTHER = 1.2
CONCENTRATIONS = {
    "Beta": ("concentration0", "concentration1"),
    "Dirichlet": ("concentration",),
    "Kumaraswamy": ("concentration0", "concentration1"),
}


def extremes(terms: Terms) -> Tensor:
    """Return the largest logit, log-scale, negative log-concentration and log-rarity, (4,)."""
    largest = torch.zeros_like(LIMITS)
    for site in [*terms.model.values(), *terms.guide.values()]:
        fn: Any = base(site["fn"])
        kind = type(fn).__name__
        if site["is_observed"] and kind == "Bernoulli":
            largest[0] = float(fn.logits.abs().flatten().float().quantile(0.99))
        scale = _scale(fn)
        if scale is not None:
            largest[1] = max(largest[1], float(scale.log().abs().max()))
        if kind == "LogisticNormal":
            largest[1] = max(largest[1], float(fn.scale.log().max()) + LOG_SCALE - LOG_STICK)
        for name in CONCENTRATIONS.get(kind, ()):
            largest[2] = max(largest[2], float(-getattr(fn, name).log().min()))
    for site in terms.guide.values():
        fn = base(site["fn"])
        if not fn.has_rsample and isinstance(probs := getattr(fn, "probs", None), Tensor):
            rarest = torch.minimum(probs, 1 - probs).min().clamp_min(1e-30)
            largest[3] = max(largest[3], float(-rarest.log()))
    return largest


def _scale(fn: Any) -> Tensor | None:  # noqa: ANN401
    """Return the scales of a family that has any; of a matrix, those on its diagonal."""
    if hasattr(fn, "cov_diag"):
        return fn.cov_diag.sqrt()
    if hasattr(fn, "scale_tril"):
        return fn.scale_tril.diagonal(dim1=-2, dim2=-1)
    return getattr(fn, "scale", None)


def is_extreme(largest: Tensor, own: Tensor) -> bool:
    """Return whether a perturbed pair is beyond a limit, and further than its `own` extremes."""
    return bool((largest > torch.maximum(LIMITS, FURTHER * own)).any())
