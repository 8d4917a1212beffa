"""The doubly reparameterised gradient of the importance-weighted bound."""

from __future__ import annotations

from torch import Tensor

from ppl_vae.elbos.continuous.iwae import TraceIWAE_ELBO
from ppl_vae.elbos.scores import with_gradient_of
from ppl_vae.elbos.sites.draws import Draw, Program
from ppl_vae.elbos.weights import Weights


class TraceDReG_ELBO(TraceIWAE_ELBO):  # noqa: N801  (Pyro's naming)
    """The importance-weighted bound with its doubly reparameterised gradient.

        guide:  sum_k v_k^2 (d log w_k / d z_k) (d z_k / d phi)    v_k = w_k / sum_j w_j
        model:  sum_k v_k   d log p(x, z_k) / d theta

    The guide's gradient goes through the draws alone, as in sticking the landing, but with the
    normalised weights squared: with the weights themselves it would be biased for K > 1.

    Estimand: the bound of `TraceIWAE_ELBO`.
    Gradient: unbiased for that bound; its signal-to-noise ratio does not fall with K.
    Bias: none.
    Needs: reparameterised sites; every latent inside the plate.
    Cost: that of `TraceIWAE_ELBO`, and one more pass back to the latents.
    Source: Tucker, Lawson, Gu and Maddison, Doubly Reparameterized Gradient Estimators, 2019,
        https://arxiv.org/abs/1810.04152, equation 8.

    Args:
        num_particles: how many particles, K.
        plate: name of the plate over the data points; a program without it has one weight.
        **options: of ``pyro.infer.ELBO``.
    """

    cuts_latents = True

    def bound(self, draws: list[Draw], program: Program) -> Tensor:
        """Return the bound summed over the data points."""
        weights = Weights(draws, self.plate)
        normalised = weights.normalised()
        through_model = self.through_model(draws, weights, normalised) + weights.rest
        total = with_gradient_of(weights.bound(), through_model)
        squared = weights.by_draw(normalised.square())
        for draw, share, ratio in zip(
            draws, squared, weights.by_draw(weights.log_ratios), strict=True
        ):
            total = total + draw.path(weights.scale * (share * ratio).sum())
        return total

    def through_model(self, draws: list[Draw], weights: Weights, normalised: Tensor) -> Tensor:
        """Return a scalar whose gradient is that of the model's parameters inside of the plate."""
        # A draw that the model rules out has the weight 0, and no part in the sums.
        log_p = weights.log_p.where(normalised > 0, 0)
        return weights.scale * (normalised * log_p).sum()
