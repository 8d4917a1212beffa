"""The importance-weighted bound."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ppl_vae.elbos.pathwise import PathwiseELBO
from ppl_vae.elbos.sites.draws import Draw, Program
from ppl_vae.elbos.weights import Weights


class TraceIWAE_ELBO(PathwiseELBO):  # noqa: N801  (Pyro's naming)
    """The importance-weighted bound, with weights per data point.

        sum_i E[ log (1/K) sum_k p(x_i, z_ik) / q(z_ik | x_i) ],    z_ik ~ q(z | x_i), K particles

    It is the ELBO at K = 1, rises with K and never exceeds the evidence. A plate that subsamples
    scales the logarithm, not the weights, so the bound of a minibatch is unbiased for the whole.

    Estimand: the bound of K particles.
    Gradient: its derivative along the reparameterised draws.
    Bias: none for this bound. The signal-to-noise ratio of the guide's gradient falls as
        1 / sqrt(K) (Rainforth and others 2018); `TraceDReG_ELBO` mends that.
    Needs: reparameterised sites; every latent inside the plate.
    Cost: K passes through guide and model, together if they are vectorised.
    Source: Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, 2015,
        https://arxiv.org/abs/1509.00519, equation 8.

    Args:
        num_particles: how many particles, K.
        plate: name of the plate over the data points; a program without it has one weight.
        **options: of ``pyro.infer.ELBO``.

    Example:
        >>> import torch
        >>> from ppl_vae import ExponentialNormal
        >>> pair = ExponentialNormal()
        >>> x = torch.tensor([1.2, 0.7, 1.1])
        >>> elbo = TraceIWAE_ELBO(num_particles=1000, vectorize_particles=True)
        >>> 0 < -elbo.loss(pair.model, pair.guide, x) - pair.exact.elbo(x).item()
        True
    """

    shares_subsamples = weighs_particles = True

    def __init__(self, num_particles: int = 10, *, plate: str = "data", **options: Any) -> None:  # noqa: ANN401
        super().__init__(num_particles, **options)
        self.plate = plate

    def bound(self, draws: list[Draw], program: Program) -> Tensor:
        """Return the bound summed over the data points."""
        return Weights(draws, self.plate).bound()
