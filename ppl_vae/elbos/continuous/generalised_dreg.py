"""The doubly reparameterised gradient for the parameters of a learned prior too."""

from __future__ import annotations

from torch import Tensor

from ppl_vae.elbos.continuous.dreg import TraceDReG_ELBO
from ppl_vae.elbos.sites.draws import Draw
from ppl_vae.elbos.sites.redrawing import redrawn
from ppl_vae.elbos.sites.traces import latent_sites
from ppl_vae.elbos.weights import Weights


class TraceGDReG_ELBO(TraceDReG_ELBO):  # noqa: N801  (Pyro's naming)
    """The importance-weighted bound with a doubly reparameterised gradient of guide and prior.

        guide:       sum_k v_k^2 (d log w_k / d z_k) (d z_k / d phi)    v_k = w_k / sum_j w_j
        likelihood:  sum_k v_k   d log p(x | z_k) / d theta
        prior:       sum_k (v_k d log p(x | z_k) - v_k^2 d log w_k) / d z_k  d T(e_k) / d lam

    The prior draws z = T(e; lam) from noise e. Each z_k came from the guide; e_k is the noise from
    which the prior would have drawn it, held fixed. In `TraceDReG_ELBO` the prior has the score
    sum_k v_k d log p(z_k) / d lam instead, whose noise does not end where the guide is the
    posterior. With several latents T is the draw of all from the top down.

    Estimand: the bound of `TraceIWAE_ELBO`.
    Gradient: unbiased for that bound. At one particle the prior's is 0, without noise, where the
        guide is the prior.
    Bias: none.
    Needs: reparameterised sites; every latent inside the plate; a prior with parameters that is
        Normal, Laplace, Cauchy, Exponential, multivariate Normal, a flow of zuko's or a transform
        of these, with the guide's support. A mixture is none.
    Cost: that of `TraceDReG_ELBO`, one more pass back to the latents, and the priors' noise.
    Source: Bauer and Mnih, Generalized Doubly Reparameterized Gradient Estimators, 2021,
        https://arxiv.org/abs/2101.11046. From E_q[g d log p / d lam] =
        E_p[(g q / p) d log p / d lam], reparameterised with p, with g = v_k.

    Args:
        num_particles: how many particles, K.
        plate: name of the plate over the data points; a program without it has one weight.
        **options: of ``pyro.infer.ELBO``.
    """

    def through_model(self, draws: list[Draw], weights: Weights, normalised: Tensor) -> Tensor:
        """Return a scalar whose gradient is that of the model's parameters inside of the plate."""
        total = normalised.new_zeros(())
        parts = (normalised, weights.log_p, weights.log_ratios)
        for draw, share, log_p, ratio in zip(draws, *map(weights.by_draw, parts), strict=True):
            latents = latent_sites(draw.model)
            log_prior = sum(weights.of_site(s, s["log_prob"]) for s in latents.values())
            # A draw that the model rules out has the weight 0, and no part in the sums.
            likelihood = (log_p - log_prior / weights.scale).where(share > 0, 0)
            direct = weights.scale * (share * likelihood).sum()
            twice = weights.scale * (share.square() * ratio.where(share > 0, 0)).sum()
            total = total + direct + draw.through(redrawn(draw), direct - twice)
        return total
