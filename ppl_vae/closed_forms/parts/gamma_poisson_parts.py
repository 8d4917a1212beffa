"""What the closed forms of counts share: checks of their input, the evidence and the ELBO.

Symbols and the public names are in `gamma_poisson`. All numbers are float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.checks import Real
from ppl_vae.closed_forms.kl import kl_gamma_gamma
from ppl_vae.closed_forms.numerics.counts import deviance, minus_log_poisson, stirling_error
from ppl_vae.closed_forms.parts.exponential_normal_data import promoted


def counts(x: Tensor, **rates: Real) -> tuple[torch.dtype, tuple[Tensor, ...]]:
    """Check the input; return the dtype of the results, and x and the rates in float64."""
    dtype, values = promoted(x, **rates)
    if checks.values_are_checked() and bool(((x < 0) | (x != x.floor())).any()):
        raise checks.value_error(
            "x: whole numbers of 0 or more only (counts)",
            f"the smallest {x.min().item()}, of {x.numel()} entries",
            "Pass raw counts.",
        )
    return dtype, values


def posterior(x: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return A and B."""
    return a + x.sum(-1), b + x.shape[-1]


def log_evidence(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return log p(x), (*batch)."""
    total, count = posterior(x, a, b)
    mean = total / count
    gap = (b * x.sum(-1) - a * x.shape[-1]) / count  # b mean - a
    prior = 0.5 * (a / total).log() + stirling_error(total) - stirling_error(a)
    return prior - deviance(a, b * mean, gap) - minus_log_poisson(x, mean.unsqueeze(-1)).sum(-1)


def elbo(x: Tensor, a: Tensor, b: Tensor, c: Tensor, r: Tensor) -> Tensor:
    """Return the ELBO of the guide Gamma(c, r), (*batch)."""
    total, count = posterior(x, a, b)
    return log_evidence(x, a, b) - kl_gamma_gamma(c, r, total, count)
