"""The ELBO of the guide and that of the best Gaussian, on common noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from ppl_vae import checks
from ppl_vae.diagnostics.estimate import Estimate
from ppl_vae.diagnostics.gap.best_gaussian import Climb, matched_rule
from ppl_vae.diagnostics.gap.controlled import Controlled
from ppl_vae.diagnostics.gap.gaussian_code import GaussianCode
from ppl_vae.diagnostics.gap.gaussians import Gaussians
from ppl_vae.diagnostics.quadrature.expectation import expectation
from ppl_vae.diagnostics.quadrature.gauss import LARGEST_DIMENSION
from ppl_vae.seeding import seeded

_POINTS = 32  # of the Gauss-Hermite rule, per dimension
_POINTS_TO_CHOOSE = 128
_PILOT_PAIRS = 32
_PAIRS_AT_ONCE = 64
_ROUNDING = 4


@dataclass(frozen=True, eq=False)
class GuideAndBest:
    """What the best Gaussian for each example gains over the guide, float64.

    Attributes:
        best: the best Gaussians; the guide's where no better one was found.
        gradient_norm: at the end of the search, (batch), in sqrt(nats).
        mean: of the guide's ELBO, the best one, and the second less the first, (batch, 3).
        error: the standard errors, or the numerical errors of a Gauss rule, likewise.
        num_points: at which each ELBO was evaluated.
    """

    best: Gaussians
    gradient_norm: Tensor
    mean: Tensor
    error: Tensor
    num_points: int

    @classmethod
    def concatenated(cls, parts: Sequence[GuideAndBest]) -> GuideAndBest:
        """Return one of all the examples in `parts`."""
        return cls(
            Gaussians(
                torch.cat([part.best.loc for part in parts]),
                torch.cat([part.best.scale_tril for part in parts]),
            ),
            torch.cat([part.gradient_norm for part in parts]),
            torch.cat([part.mean for part in parts]),
            torch.cat([part.error for part in parts]),
            parts[0].num_points,
        )

    def estimates(self) -> dict[str, Estimate[Tensor]]:
        """Return ``elbo``, ``best_elbo`` and ``amortisation``, each (batch)."""
        names = ("elbo", "best_elbo", "amortisation")
        return {
            name: Estimate(mean, error, self.num_points)
            for name, mean, error in zip(names, self.mean.mT, self.error.mT, strict=True)
        }


def guide_and_best(
    code: GaussianCode, search: Callable[[GaussianCode], Climb], num_samples: int, seed: int
) -> GuideAndBest:
    """Return the best Gaussians, as `search` finds them, and both ELBOs.

    One or two latent dimensions are integrated by a Gauss rule. With more there are three kinds of
    draws, independent of each other: those of the search; those that tell whether what it found is
    better than the guide, and how log p(x, z) curves; and `num_samples` for the ELBOs, in pairs of
    opposites, which leaves these without bias.
    """
    with seeded(seed, code.guide.loc.device):
        found = search(code)
        best = found.gaussians
        if code.latent_dim <= LARGEST_DIMENSION:
            num_points = _POINTS**code.latent_dim
            mean, error = _by_rule(code, best)
            worse = mean[:, 2] <= 0
            best = code.guide.where(worse, best)
            # There the guide's ELBO stands twice.
            mean, error = (
                torch.where(worse.unsqueeze(-1), v[:, [0, 0, 2]], v) for v in (mean, error)
            )
        else:
            num_points = num_samples // 2 * 2
            noise, _ = matched_rule(max(_POINTS_TO_CHOOSE, 4 * code.latent_dim), code)
            guide, other = (Controlled.by(code, q, noise) for q in (code.guide, best))
            checks.finite("log p(x, z) at the guide's codes", guide.elbo)
            other = other.where(other.elbo > guide.elbo, guide)
            best = other.gaussians
            mean, error = _by_draws(code, guide, other, num_samples // 2)
        # What float arithmetic leaves of sums over pixels; none of it where both are the guide.
        error = error + _ROUNDING * torch.finfo(code.pair.dtype).eps * mean[:, :1].abs()
        same = (best.loc == code.guide.loc).all(-1)
        same &= (best.scale_tril == code.guide.scale_tril).all(-1).all(-1)
        mean[same, 2] = error[same, 2] = 0
    return GuideAndBest(best, found.gradient_norm, mean, error, num_points)


def _values(code: GaussianCode, best: Gaussians, noise: Tensor) -> Tensor:
    """Return log p(x, z) - log q(z) of guide and best, and their difference, (num, 3, batch)."""
    values = [code.log_joint(q.codes(noise)) - q.log_prob(noise) for q in (code.guide, best)]
    return torch.stack([*values, values[1] - values[0]], dim=1)


def _by_rule(code: GaussianCode, best: Gaussians) -> tuple[Tensor, Tensor]:
    noise = Independent(Normal(torch.zeros_like(best.loc).expand(3, -1, -1), 1.0), 1)
    found = expectation(
        noise, lambda e: _values(code, best, e[:, 0]), method="quadrature", num_points=_POINTS
    )
    return found.mean.mT, found.standard_error.mT


def _by_draws(
    code: GaussianCode, guide: Controlled, best: Controlled, num_pairs: int
) -> tuple[Tensor, Tensor]:
    loc = best.gaussians.loc

    def draw(num: int) -> Tensor:
        return torch.randn(num, *loc.shape, dtype=loc.dtype, device=loc.device)

    pilot = draw(_PILOT_PAIRS)
    guide, best = guide.tuned(code, pilot), best.tuned(code, pilot)
    parts = []
    for begin in range(0, num_pairs, _PAIRS_AT_ONCE):
        noise = draw(min(_PAIRS_AT_ONCE, num_pairs - begin))
        values = [q.values(code, noise) for q in (guide, best)]
        parts.append(torch.stack([*values, values[1] - values[0]], dim=1))
    values = torch.cat(parts)
    return values.mean(0).mT, (values.std(0) / math.sqrt(num_pairs)).mT
