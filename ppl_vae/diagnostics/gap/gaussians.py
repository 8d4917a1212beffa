"""One Gaussian per example."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Gaussians:
    """One Normal per example, by its mean and the Cholesky factor of its covariance.

    Attributes:
        loc: (batch, latent_dim).
        scale_tril: (batch, latent_dim, latent_dim), lower triangular, diagonal above 0.
    """

    loc: Tensor
    scale_tril: Tensor

    def __len__(self) -> int:
        return len(self.loc)

    def __getitem__(self, index: Tensor | slice) -> Gaussians:
        return Gaussians(self.loc[index], self.scale_tril[index])

    def to(self, dtype: torch.dtype) -> Gaussians:
        """Return the same in `dtype`."""
        return Gaussians(self.loc.to(dtype), self.scale_tril.to(dtype))

    def where(self, chosen: Tensor, other: Gaussians) -> Gaussians:
        """Return these where `chosen`, (batch), holds, and the others elsewhere."""
        return Gaussians(
            torch.where(chosen.unsqueeze(-1), self.loc, other.loc),
            torch.where(chosen[:, None, None], self.scale_tril, other.scale_tril),
        )

    def codes(self, noise: Tensor) -> Tensor:
        """Return loc + scale_tril noise, (num, batch, latent_dim), for noise that broadcasts."""
        return self.loc + (self.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)

    def log_prob(self, noise: Tensor) -> Tensor:
        """Return the log-density of ``codes(noise)``, (num, batch), in nats."""
        constant = self.log_volume + 0.5 * self.loc.shape[-1] * math.log(2 * math.pi)
        return -0.5 * noise.square().sum(-1) - constant

    @property
    def log_volume(self) -> Tensor:
        """The logarithm of the determinant of scale_tril, (batch)."""
        return self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
