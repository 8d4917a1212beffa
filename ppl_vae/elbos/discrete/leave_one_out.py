"""The score function with the other particles as its baseline."""

from __future__ import annotations

from typing import Any

from pyro.infer.util import MultiFrameTensor
from torch import Tensor

from ppl_vae.elbos.scores import (
    ScoredELBO,
    along_the_path,
    log_ratio,
    scored_sites,
    with_gradient_of,
)
from ppl_vae.elbos.sites.draws import Draw, Program
from ppl_vae.elbos.sites.traces import log_density, total
from ppl_vae.elbos.weights import PARTICLES


class TraceLeaveOneOut_ELBO(ScoredELBO):  # noqa: N801  (Pyro's naming)
    """The ELBO of discrete latents by scores, each particle's baseline the mean of the others.

        (1/K) sum_k (f(z_k) - mean over j != k of f(z_j)) d log q(z_k) / d phi

    with f = log p(x, z) - log q(z) held fixed. The baseline does not depend on z_k, so the mean
    stays what it is; a constant in f, however large, adds no noise. Within plates a draw is
    weighed by its own data point's terms only. Draws that have an rsample are followed along the
    path.

    Estimand: the ELBO.
    Gradient: discrete draws by their scores, other draws by their derivatives.
    Bias: none.
    Needs: two particles or more; any latents.
    Cost: a pass through guide and model for each particle.
    Source: Kool, van Hoof and Welling, Buy 4 REINFORCE samples, get a baseline for free, 2019;
        Mnih and Rezende 2016. `ppl_vae.closed_forms.one_bit` has the variance for
        one bit.

    Args:
        num_particles: draws in each estimate, K, at least 2.
        **options: of ``pyro.infer.ELBO``.

    Raises:
        TypeError: `num_particles` is not an int.
        ValueError: `num_particles` below 2.

    Example:
        >>> from ppl_vae import BinaryLatentVAE
        >>> pair = BinaryLatentVAE((1, 3, 3), latent_dim=4, seed=0)
        >>> elbo = TraceLeaveOneOut_ELBO(num_particles=2)
        >>> loss = elbo.loss(pair.model, pair.guide, pair.sample(3, seed=0))
    """

    def bound(self, draws: list[Draw], program: Program) -> Tensor:
        """Return the mean of log p(x, z) - log q(z) over the particles."""
        count = self.num_particles
        ratios = [log_ratio(draw.model, draw.guide) for draw in draws]
        sums = MultiFrameTensor(*(item for ratio in ratios for item in ratio.items()))
        surrogates, values = [], []
        for draw, ratio in zip(draws, ratios, strict=True):
            values.append(log_density(draw.model) - log_density(draw.guide))
            surrogates.append(along_the_path(draw.model, draw.guide))
            for site, score in scored_sites(draw.guide):
                frames = site["cond_indep_stack"]
                own: Any = ratio.sum_to(frames)
                mean: Any = sums.sum_to([f for f in frames if f.name != PARTICLES])
                # Own value less the others' mean, from the mean of all.
                weight = (own - mean / count) * (count / (count - 1))
                surrogates.append((weight * score).sum())
        return with_gradient_of(total(values) / count, total(surrogates) / count)
