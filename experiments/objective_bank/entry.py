"""One objective of the bank, and the pieces from which most are put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal

Objective = Callable[[Tensor], Tensor]
Make = Callable[[Any], Objective]
# The dimensions of an image: channels, rows, columns.
PIXELS = (1, 2, 3)

# A name in MODELS with arguments. Small, so that the whole bank takes a minute.
PAIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "toy": (
        "exponential-normal",
        {"prior_rate": 2.0, "noise_scale": 0.5, "guide_rate": 1.5},
    ),
    "mlp": (
        "bernoulli-vae",
        {"image_shape": (1, 6, 6), "latent_dim": 3, "hidden": (16,), "seed": 1},
    ),
    "conv": (
        "conv-gaussian-vae",
        {"latent_dim": 5, "learn_scale": True, "image_shape": (1, 8, 8), "seed": 1},
    ),
    "bottom-up": (
        "hierarchical-vae",
        {"image_shape": (1, 5, 5), "latent_dims": (4, 3), "guide": "bottom-up", "seed": 1},
    ),
    "top-down": (
        "hierarchical-vae",
        {"image_shape": (1, 5, 5), "latent_dims": (4, 3), "guide": "top-down", "seed": 1},
    ),
}


@dataclass(frozen=True)
class Entry:
    """One objective.

    Attributes:
        name: what it does, in a few words.
        pair: the key in `PAIRS` of the pair that it is written for.
        make: from the pair to the objective.
        kind: what it claims to be, ``loss`` or ``elbo``.
        reduction: over the examples.
        finding: kind and term of the finding that it must give; None for a right one.
        says: words that this finding must contain.
        source: where the mistake is met.
    """

    name: str
    pair: str
    make: Make
    kind: str = "loss"
    reduction: str = "mean"
    finding: tuple[str, str] | None = None
    says: str = ""
    source: str = ""


def reparameterised(loc: Tensor, scale: Tensor) -> Tensor:
    """Return ``loc + scale noise``."""
    return loc + scale * torch.randn_like(scale)


def cross_entropy(pair: Any, x: Tensor, z: Tensor) -> Tensor:  # noqa: ANN401
    """Return -log p(x | z) of Bernoulli pixels, (batch)."""
    logits = pair.decode(z)
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(PIXELS)


def normal_nll(pair: Any, x: Tensor, z: Tensor) -> Tensor:  # noqa: ANN401
    """Return -log p(x | z) of Normal pixels, (batch)."""
    return -Normal(pair.decode(z), pair.log_scale.exp()).log_prob(x).sum(PIXELS)


def closed_kl(loc: Tensor, scale: Tensor, z: Tensor) -> Tensor:
    """Return KL(q || standard Normal) in closed form, (batch)."""
    return (0.5 * (scale**2 + loc**2 - 1) - scale.log()).sum(-1)


def sampled_kl(loc: Tensor, scale: Tensor, z: Tensor) -> Tensor:
    """Return log q(z) - log p(z), (batch)."""
    return (Normal(loc, scale).log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(-1)


def loss(
    nll: Callable[[Any, Tensor, Tensor], Tensor] = cross_entropy,
    kl: Callable[[Tensor, Tensor, Tensor], Tensor] = closed_kl,
    draw: Callable[[Tensor, Tensor], Tensor] = reparameterised,
    join: Callable[[Tensor, Tensor], Tensor] = lambda nll, kl: (nll + kl).mean(),
) -> Make:
    """Put a loss together: encode, draw z, reconstruct, diverge, join."""

    def make(pair: Any) -> Objective:  # noqa: ANN401
        def objective(x: Tensor) -> Tensor:
            loc, scale = pair.encode(x)
            z = draw(loc, scale)
            return join(nll(pair, x, z), kl(loc, scale, z))

        return objective

    return make
