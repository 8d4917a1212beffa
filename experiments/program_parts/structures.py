"""Programs with the same prior and likelihood, and plates, masks and shapes of other kinds."""

from __future__ import annotations

from dataclasses import replace

import pyro.distributions as dist
import torch
from torch import Tensor

from program_parts.families import BASE, BITS, LATENTS, LIKELIHOODS, X
from program_parts.small import Numbers


def pair_of_codes(p: Numbers, z: Tensor) -> dist.Distribution:
    """A Normal around the product of two codes."""
    return dist.Normal(p["a"] * z[..., 0] + p["b"] * z[..., 0] * z[..., 1], 0.6)


STRUCTURES = {
    "one example": replace(BASE, x=X[:1]),
    "two codes": replace(
        BASE,
        dims=2,
        prior=lambda p: dist.Normal(p["a"].expand(2), p["b"].exp()).to_event(1),
        likelihood=pair_of_codes,
        posterior=lambda p, x: dist.Normal(
            torch.stack([p["a"] * x, p["b"] - x / 4], -1), p["c"].exp()
        ).to_event(1),
    ),
    "two correlated codes": replace(
        BASE,
        dims=2,
        prior=lambda p: dist.MultivariateNormal(
            p["a"].expand(2), scale_tril=torch.tensor([[1.0, 0.0], [0.5, 0.8]])
        ),
        likelihood=pair_of_codes,
        posterior=lambda p, x: dist.MultivariateNormal(
            torch.stack([p["a"] * x, p["b"] - x / 4], -1),
            scale_tril=torch.tensor([[0.6, 0.0], [0.2, 0.5]]),
        ),
    ),
    "low-rank codes": replace(
        BASE,
        dims=2,
        prior=lambda p: dist.Normal(p["a"].expand(2), p["b"].exp()).to_event(1),
        likelihood=pair_of_codes,
        posterior=lambda p, x: dist.LowRankMultivariateNormal(
            torch.stack([p["a"] * x, p["b"] - x / 4], -1),
            torch.tensor([[0.5], [0.3]]),
            p["c"].exp().expand(2),
        ),
    ),
    "plate of another name": replace(BASE, plate="observations"),
    "scaled by 3": replace(BASE, weight=3.0),
    "scaled by 1/2": replace(BASE, weight=0.5),
    "half of the data": replace(BASE, size=2 * len(X)),
    "masked observations": replace(BASE, mask=BITS.bool()),
    "masked Bernoulli": replace(
        BASE,
        x=BITS,
        mask=torch.tensor([True, True, False, False, True, True]),
        likelihood=LIKELIHOODS["Bernoulli"][0],
    ),
    "one code of all examples": replace(
        BASE,
        shared=True,
        posterior=lambda p, x: dist.Normal(p["a"] * x.mean() + p["b"], p["c"].exp()),
    ),
    "one bit of all examples": replace(
        BASE,
        shared=True,
        prior=lambda p: dist.Bernoulli(logits=p["a"]),
        posterior=lambda p, x: dist.Bernoulli(logits=p["a"] * x.mean() + p["b"]),
    ),
    "no plate": replace(BASE, declared=True),
    "no plate, Laplace": replace(
        BASE,
        declared=True,
        smooth=False,
        prior=LATENTS["Laplace || Laplace"][0],
        posterior=LATENTS["Laplace || Laplace"][1],
    ),
}
