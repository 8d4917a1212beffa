"""Pyro's reweighted wake-sleep with one loss, by data point."""

from __future__ import annotations

import copy
from typing import Any

from pyro.infer import ReweightedWakeSleep
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ppl_vae.elbos.discrete.score_function import WithoutReparameterisation
from ppl_vae.elbos.scores import ScoredELBO, with_gradient_of
from ppl_vae.elbos.sites.draws import Draw, Function, Program
from ppl_vae.elbos.sites.traces import check_sites
from ppl_vae.elbos.weights import Weights


class TraceReweightedWakeSleep_ELBO(ScoredELBO, ReweightedWakeSleep):  # noqa: N801
    """Reweighted wake-sleep, where each half of the program follows an objective of its own.

        model:  sum_k v_k d log p(x, z_k) / d theta     v_k = w_k / sum_j w_j
        guide:  sum_k v_k d log q(z_k) / d phi

    Draws are held fixed, whatever the latents are. The model ascends the importance-weighted
    bound. The guide descends an estimate of KL(p(z | x) || q), not the bound: it learns to cover
    the posterior. What model and guide share follows both.

    Pyro's own class gives one weight to a whole batch, within plates too, takes no minibatches,
    and returns two losses. Here every data point has weights of its own, a plate that subsamples
    scales as elsewhere, and the loss is one number, the bound's; both gradients are that of
    `differentiable_loss`. With ``insomnia`` below 1 the rest of the guide's gradient comes from
    Pyro's sleep phase.

    Estimand: the bound of K particles, as `TraceIWAE_ELBO`.
    Gradient: of the model's parameters that of the bound; of the guide's that of another
        objective.
    Bias: of the guide's gradient; none of the value and of the model's gradient.
    Needs: two particles or more; every latent inside of the plate. With ``insomnia`` below 1 a
        guide that takes ``observations``, as Pyro's class explains.
    Cost: K passes through guide and model, together if they are vectorised.
    Source: Bornschein and Bengio, Reweighted Wake-Sleep, 2015, https://arxiv.org/abs/1406.2751;
        Le, Kosiorek, Siddharth, Teh and Wood, 2019, https://arxiv.org/abs/1805.10469.

    Args:
        num_particles: how many particles, K, at least 2.
        plate: name of the plate over the data points; a program without it has one weight.
        **options: of ``pyro.infer.ReweightedWakeSleep``; particles are vectorised only if
            ``vectorize_particles`` says so.

    Raises:
        TypeError: `num_particles` is not an int.
        ValueError: `num_particles` below 2.
        NotImplementedError: at a step, a latent outside of the plate.
    """

    weighs_particles = True

    def __init__(self, num_particles: int = 2, *, plate: str = "data", **options: Any) -> None:  # noqa: ANN401
        options.setdefault("vectorize_particles", False)
        super().__init__(num_particles, **options)
        self.plate = plate

    def check_traces(self, model: Trace, guide: Trace) -> None:
        """Raise unless model and guide draw the same latents."""
        check_sites(model, guide, reparameterised=False)

    def bound(self, draws: list[Draw], program: Program) -> Tensor:
        """Return the bound summed over the data points."""
        weights = Weights(draws, self.plate)
        shares = weights.normalised()
        # A draw that the model rules out has the weight 0, and no part in the sums.
        counted = shares > 0
        log_p, log_q = (part.where(counted, 0) for part in (weights.log_p, weights.log_q))
        model, guide = (weights.scale * (shares * part).sum() for part in (log_p, log_q))
        if self.insomnia < 1:
            guide = self.insomnia * guide - (1 - self.insomnia) * self._asleep(program)
        return with_gradient_of(weights.bound(), model + guide + weights.rest)

    def _asleep(self, program: Program) -> Tensor:
        """Return Pyro's loss of the guide at draws from the model."""
        twin = copy.copy(self)
        twin.insomnia, twin.model_has_params = 0.0, False
        losses: Any = twin._loss(*program[:3], dict(program.kwargs))
        return losses[1]

    def _get_trace(
        self, model: Function, guide: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Trace, Trace]:
        with WithoutReparameterisation():
            return super()._get_trace(model, guide, args, kwargs)
