"""Draws of log p(x, z) - log q(z) with a quadratic control variate."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ppl_vae.diagnostics.gap.gaussian_code import GaussianCode
from ppl_vae.diagnostics.gap.gaussians import Gaussians


@dataclass(frozen=True, eq=False)
class Controlled:
    """Gaussians q, with a control variate c for log p(x, z) - log q(z) at z = m + L e.

        c(e) = (e' H e - tr H) / 2        E[c] = 0 for e ~ Normal(0, I)

    With H the mean Hessian by e, less c there is no noise where log p(x, z) is quadratic in z.

    Attributes:
        gaussians: q.
        elbo: at the noise from which H was found, (batch), in nats.
        hessian: H, (batch, latent_dim, latent_dim).
        share: how much of c to subtract, (batch).
    """

    gaussians: Gaussians
    elbo: Tensor
    hessian: Tensor
    share: Tensor

    @classmethod
    def by(cls, code: GaussianCode, gaussians: Gaussians, noise: Tensor) -> Controlled:
        """Return those whose H comes from the slopes at some noise, (num, latent_dim).

        Source:
            Stein's lemma: E[gradient of f, times e'] is E[Hessian of f]. It holds for a quadratic
            f at any noise with mean 0 and covariance I.
        """
        values, slopes = code.slopes(gaussians.codes(noise.unsqueeze(1)))
        slopes = (slopes.unsqueeze(-2) @ gaussians.scale_tril).squeeze(-2)
        outer = torch.einsum("nbi,nj->bij", slopes, noise) / len(noise)
        dim = noise.shape[-1]
        hessian = (outer + outer.mT) / 2 + torch.eye(dim, dtype=noise.dtype, device=noise.device)
        elbo = values.mean(0) + gaussians.log_volume + 0.5 * dim * math.log(2 * math.pi * math.e)
        return cls(gaussians, elbo, hessian, torch.ones_like(elbo))

    def where(self, chosen: Tensor, other: Controlled) -> Controlled:
        """Return these where `chosen`, (batch), holds, and the others elsewhere."""
        return Controlled(
            self.gaussians.where(chosen, other.gaussians),
            torch.where(chosen, self.elbo, other.elbo),
            torch.where(chosen[:, None, None], self.hessian, other.hessian),
            torch.where(chosen, self.share, other.share),
        )

    def tuned(self, code: GaussianCode, noise: Tensor) -> Controlled:
        """Return the same with the share that leaves the least variance over some noise."""
        values, control = self._pairs(code, noise)
        values, control = values - values.mean(0), control - control.mean(0)
        spread = control.square().sum(0)
        share = (values * control).sum(0) / torch.where(spread > 0, spread, 1.0)
        return replace(self, share=share.clamp(0, 1))

    def values(self, code: GaussianCode, noise: Tensor) -> Tensor:
        """Return log p(x, z) - log q(z) less the control, (num, batch), in nats.

        Each value is the mean over a row of `noise`, (num, batch, latent_dim), and its opposite.
        """
        values, control = self._pairs(code, noise)
        return values - self.share * control

    def _pairs(self, code: GaussianCode, noise: Tensor) -> tuple[Tensor, Tensor]:
        both = [
            code.log_joint(self.gaussians.codes(e)) - self.gaussians.log_prob(e)
            for e in (noise, -noise)
        ]
        quadratic = torch.einsum("nbi,bij,nbj->nb", noise, self.hessian, noise)
        trace = self.hessian.diagonal(dim1=-2, dim2=-1).sum(-1)
        return (both[0] + both[1]) / 2, (quadratic - trace) / 2
