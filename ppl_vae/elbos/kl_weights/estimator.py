"""Any estimator of the ELBO, with a weight on the KL divergence."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from pyro.infer import ELBO, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceTailAdaptive_ELBO
from torch import Tensor

from ppl_vae import checks
from ppl_vae.elbos.kl_weights.program import Weighting
from ppl_vae.elbos.kl_weights.weight import (
    KLWeight,
    check_free_bits,
    check_weights,
    is_one,
)
from ppl_vae.elbos.pathwise import PathwiseELBO
from ppl_vae.elbos.sites.draws import Function, Program

_SUMS = (Trace_ELBO, TraceGraph_ELBO, TraceEnum_ELBO, PathwiseELBO)


class WeightedELBO(ELBO):
    """The ELBO with a weight on the KL divergence of each site, by any estimator.

        E[log p(x | z)] - sum over sites s of w_s sum over dimensions j of max(f, KL_sj)

    At a weight of 1 and without free bits it is the ELBO; at another weight it is the objective
    of the beta-VAE. The log-densities of the latents are scaled in model and guide alike, so the
    estimate and its gradient are what `elbo` makes of them, closed-form divergences included.
    KL_sj is the mean over the data points of the plates (a minibatch), in closed form where one
    is right, else at the present draw; a dimension below f has no gradient.

    Estimand: that objective. Gradient: the estimator's.
    Bias: that of `elbo`; with free bits, none where the KL of every site is in closed form and
        its parents are not drawn.
    Source: Higgins and others, beta-VAE, 2017; Kingma and others, Improved Variational Inference
        with Inverse Autoregressive Flow, 2016, appendix C.8 (free bits).

    Args:
        elbo: an estimator of the ELBO.
        kl_weight: a number or a 0-dimensional tensor, at least 0, or a mapping from sites to
            these; a site that is not named has weight 1.
        free_bits: f, in nats per latent dimension, at least 0.

    Attributes:
        elbo: the estimator without weights.
        kl_weight: as given. A tensor is read anew at each step.
        free_bits: as given.

    Raises:
        TypeError: a weight of another kind.
        ValueError: a weight that is negative, NaN or infinite; at a step, an unknown site.
        NotImplementedError: an importance-weighted bound or a closed form, in which no KL
            divergence stands apart; free bits with ``disarm``; at a step, a latent that the guide
            does not draw, or free bits of a site whose dimensions depend on each other.

    Example:
        >>> from ppl_vae import GaussianChain
        >>> from ppl_vae.elbos import make
        >>> pair = GaussianChain()
        >>> x = pair.sample(3, seed=0)
        >>> twice = make("analytic-kl", kl_weight=2.0)
        >>> loss = twice.loss(pair.model, pair.guide, x)
    """

    def __init__(self, elbo: ELBO, *, kl_weight: KLWeight = 1.0, free_bits: float = 0.0) -> None:
        if isinstance(elbo, WeightedELBO):
            raise checks.type_error(
                "an estimator without weights", "one that has them", "Pass its `elbo`."
            )
        require_sum_of_divergences(elbo)
        super().__init__(
            num_particles=elbo.num_particles, vectorize_particles=elbo.vectorize_particles
        )
        self.elbo: Any = elbo
        self.kl_weight = check_weights(kl_weight)
        self.free_bits = check_free_bits(free_bits)
        self._runs_once = getattr(elbo, "runs_once_a_particle", True)
        if self.free_bits and not self._runs_once:
            raise checks.not_implemented(
                "an estimator that runs the program once for each particle, for free_bits",
                f"{type(elbo).__name__}, which compares several runs",
                "Choose 'leave-one-out', or leave free_bits at 0.",
            )

    def __copy__(self) -> WeightedELBO:
        twin = object.__new__(type(self))
        vars(twin).update(vars(self), elbo=copy.copy(self.elbo))
        return twin

    @property
    def objective(self) -> str:
        """What is estimated, in words."""
        weight = self.kl_weight
        if isinstance(weight, Mapping):
            text = ", ".join(f"{site} {float(w):.4g}" for site, w in weight.items())
        else:
            text = f"{float(weight):.4g}"
        bits = f", {self.free_bits:.4g} free nats" if self.free_bits else ""
        return f"KL weight {text}{bits}"

    def loss(self, model: Function, guide: Function, *args: object, **kwargs: object) -> float:
        """Return the negative objective as a number, in nats."""
        loss, _ = self._call(self.elbo.loss, Program(model, guide, args, kwargs))
        return loss

    def differentiable_loss(
        self, model: Function, guide: Function, *args: object, **kwargs: object
    ) -> Tensor:
        """Return the negative objective, a scalar in nats, with the estimator's gradient."""
        loss, _ = self._call(self.elbo.differentiable_loss, Program(model, guide, args, kwargs))
        return loss

    def loss_and_grads(
        self, model: Function, guide: Function, *args: object, **kwargs: object
    ) -> Any:  # noqa: ANN401
        """Return the negative objective; add its gradient to the parameters' ``grad``."""
        loss, _ = self._call(self.elbo.loss_and_grads, Program(model, guide, args, kwargs))
        return loss

    def losses_and_grads(
        self, model: Function, guide: Function, *args: object, **kwargs: object
    ) -> tuple[Any, Any]:
        """Return the negative objective and the negative ELBO without weights; add gradients.

        The ELBO is that of the same draws. Where states are enumerated, or a particle is more
        than one run of the program, it is another estimate.
        """
        program = Program(model, guide, args, kwargs)
        loss, runs = self._call(self.elbo.loss_and_grads, program, tracks=True)
        if not self._runs_once or any(run.is_enumerated for run in runs):
            with torch.no_grad():
                return loss, self.elbo.loss(model, guide, *args, **kwargs)
        terms = [term for run in runs for term in run.log_ratio]
        return loss, -sum(terms) / self.num_particles

    def _call(self, function: Any, program: Program, *, tracks: bool = False) -> tuple[Any, Any]:  # noqa: ANN401
        weighting = Weighting(self.kl_weight, self.free_bits, tracks=tracks)
        model, guide, args, kwargs = weighting.of(program)
        loss = function(model, guide, *args, **kwargs)
        # Pyro may have run the program once more before, to look at its plates.
        runs = weighting.runs[-(1 if self.vectorize_particles else self.num_particles) :]
        floors = [each for run in runs for each in run.floors.values()]
        if floors:
            total = sum(floors) / self.num_particles
            loss = loss + (total if isinstance(loss, Tensor) else float(total))
        return loss, runs

    def _get_trace(self, *_: object) -> Any:  # noqa: ANN401
        raise NotImplementedError("WeightedELBO draws no traces; its `elbo` does")


def weigh(elbo: ELBO, *, kl_weight: KLWeight = 1.0, free_bits: float = 0.0) -> ELBO:
    """Return `elbo` with its weights, or as it is where they change nothing."""
    if is_one(kl_weight) and check_free_bits(free_bits) == 0:
        return elbo
    return WeightedELBO(elbo, kl_weight=kl_weight, free_bits=free_bits)


def without_weights(elbo: ELBO) -> ELBO:
    """Return the estimator of the ELBO itself."""
    return elbo.elbo if isinstance(elbo, WeightedELBO) else elbo


def weighting_of(elbo: ELBO) -> Weighting:
    """Return what weighs a program as `elbo` does; one of weight 1 if it has none."""
    if isinstance(elbo, WeightedELBO):
        return Weighting(elbo.kl_weight, elbo.free_bits)
    return Weighting()


def require_sum_of_divergences(elbo: ELBO) -> None:
    """Raise NotImplementedError unless the KL of each site stands apart in what is estimated."""
    if isinstance(elbo, TraceTailAdaptive_ELBO) or not isinstance(elbo, _SUMS):
        came = "which estimates no sum of KL divergences"
    elif getattr(elbo, "weighs_particles", False):
        came = "a logarithm of importance weights, in which no KL divergence stands apart"
    else:
        return
    raise checks.not_implemented(
        "an estimator of the ELBO, E[log p(x | z)] - KL, for kl_weight and free_bits",
        f"{type(elbo).__name__}, {came}",
        "Choose 'trace', 'analytic-kl' or another whose bound is the ELBO, or leave both out.",
    )
