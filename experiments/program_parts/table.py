"""The programs, by name."""

from __future__ import annotations

from dataclasses import replace

import pyro.distributions as dist
import torch
from torch import Tensor

from program_parts.families import BASE, LATENTS, LIKELIHOODS, seen
from program_parts.modules import WRITTEN_OTHERWISE
from program_parts.small import Numbers, Spec
from program_parts.structures import STRUCTURES


def numbers_of_one_hot(p: Numbers, z: Tensor) -> dist.Distribution:
    """A Normal around the place of a one-hot vector."""
    return seen(p, (z * torch.arange(z.shape[-1])).sum(-1))


def programs() -> dict[str, Spec]:
    """Return all of them, by name."""
    found = {
        f"{name} pixels": replace(BASE, likelihood=f, x=x) for name, (f, x) in LIKELIHOODS.items()
    }
    for name, (prior, posterior) in LATENTS.items():
        hot = "OneHot" in name
        found[name] = replace(
            BASE,
            prior=prior,
            posterior=posterior,
            likelihood=numbers_of_one_hot if hot else seen,
            smooth="Laplace" not in name and "Beta ||" not in name,
        )
    return found | STRUCTURES | WRITTEN_OTHERWISE
