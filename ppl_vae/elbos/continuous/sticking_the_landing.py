"""Sticking the landing: the gradient through the draws alone."""

from __future__ import annotations

from torch import Tensor

from ppl_vae.elbos.pathwise import PathwiseELBO
from ppl_vae.elbos.sites.draws import Draw, Program
from ppl_vae.elbos.sites.traces import log_density, total


class TraceSTL_ELBO(PathwiseELBO):  # noqa: N801  (Pyro's naming)
    """The ELBO with the score term of the guide left out of the gradient.

        d/dphi E[log p(x, z) - log q(z)] = E[ (d/dz) (log p(x, z) - log q_phi(z)) dz/dphi ]

    The guide's own density also depends on its parameters at a fixed draw; the expectation of
    that derivative, the score, is 0, and here it is not added. At the exact posterior the bracket
    does not depend on z, so the gradient has no variance there. Any number of latents, one drawn
    from another too: the derivative goes through every draw, and through nothing else.

    Estimand: the ELBO.
    Gradient: of the model's parameters as usual; of the guide's through the draws alone.
    Bias: none.
    Needs: reparameterised sites.
    Cost: one pass through guide and model, and one more pass back to the latents.
    Source: Roeder, Wu and Duvenaud, Sticking the Landing, 2017, https://arxiv.org/abs/1703.09194.

    Args:
        num_particles: draws in each estimate.
        **options: of ``pyro.infer.ELBO``.

    Example:
        >>> from ppl_vae import GaussianChain
        >>> pair = GaussianChain()
        >>> loss = TraceSTL_ELBO().loss(pair.model, pair.guide, pair.sample(3, seed=0))
    """

    cuts_latents = True

    def bound(self, draws: list[Draw], program: Program) -> Tensor:
        """Return the mean of log p(x, z) - log q(z) over the particles."""
        parts = []
        for draw in draws:
            log_p, log_q = log_density(draw.model), log_density(draw.guide)
            parts.append(log_p - log_q.detach() + draw.path(log_p - log_q))
        return total(parts) / self.num_particles
