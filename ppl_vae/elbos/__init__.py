"""The ELBO estimators, by name, with what each claims and needs."""

from __future__ import annotations

from pyro.infer import ELBO

from ppl_vae import checks
from ppl_vae.elbos.continuous.analytic_kl import TraceAnalyticKL_ELBO
from ppl_vae.elbos.continuous.dreg import TraceDReG_ELBO
from ppl_vae.elbos.continuous.exact import Exact_ELBO
from ppl_vae.elbos.continuous.generalised_dreg import TraceGDReG_ELBO
from ppl_vae.elbos.continuous.iwae import TraceIWAE_ELBO
from ppl_vae.elbos.continuous.sticking_the_landing import TraceSTL_ELBO
from ppl_vae.elbos.discrete.disarm import TraceDisARM_ELBO
from ppl_vae.elbos.discrete.enumerate import TraceEnumerate_ELBO
from ppl_vae.elbos.discrete.leave_one_out import TraceLeaveOneOut_ELBO
from ppl_vae.elbos.discrete.reweighted_wake_sleep import TraceReweightedWakeSleep_ELBO
from ppl_vae.elbos.discrete.score_function import TraceScoreFunction_ELBO
from ppl_vae.elbos.discrete.straight_through import TraceStraightThrough_ELBO
from ppl_vae.elbos.discrete.vimco import TraceVIMCO_ELBO
from ppl_vae.elbos.estimator import Estimator
from ppl_vae.elbos.kl_weights.estimator import WeightedELBO, weigh, without_weights
from ppl_vae.elbos.kl_weights.weight import KLWeight
from ppl_vae.elbos.registry import ESTIMATORS


def make(
    elbo: str | ELBO,
    *,
    num_particles: int | None = None,
    kl_weight: KLWeight = 1.0,
    free_bits: float = 0.0,
) -> ELBO:
    """Return the estimator that is meant: one that is ready, or a name in `ESTIMATORS`.

    Args:
        elbo: a ``pyro.infer.ELBO``, which is returned as it is, or a name.
        num_particles: for a name, how many particles each estimate averages; None is the fewest
            that the estimator takes.
        kl_weight: on the KL divergence; see `WeightedELBO`.
        free_bits: nats per latent dimension below which the KL is not pushed; likewise.

    Raises:
        ValueError: an unknown name (the nearest known one is suggested), too few particles, or a
            negative weight.
        TypeError: `elbo` is neither, or a weight of another kind.
        NotImplementedError: weights of a bound that has no KL divergence apart.

    Example:
        >>> type(make("trace")).__name__
        'Trace_ELBO'
    """
    if isinstance(elbo, ELBO):
        return weigh(elbo, kl_weight=kl_weight, free_bits=free_bits)
    if not isinstance(elbo, str):
        raise checks.type_error(
            "elbo as an estimator's name or a pyro.infer.ELBO",
            type(elbo).__name__,
            f"Known names: {', '.join(ESTIMATORS)}.",
        )
    checks.name("estimator", elbo, ESTIMATORS)
    return ESTIMATORS[elbo].make(
        num_particles=num_particles, kl_weight=kl_weight, free_bits=free_bits
    )


def name_of(elbo: ELBO) -> str | None:
    """Return the name under which the class of `elbo`, weighted or not, is registered, or None."""
    cls = type(without_weights(elbo))
    return next((name for name, entry in ESTIMATORS.items() if cls is entry.cls), None)


def bound_of(elbo: ELBO) -> str:
    """Return what `elbo` estimates; with one particle every bound here is the ELBO.

    An estimator that is not registered is taken to estimate the ELBO. Weights are part of it.
    """
    if isinstance(elbo, WeightedELBO):
        return f"elbo, {elbo.objective}"
    name = name_of(elbo)
    return "elbo" if name is None or elbo.num_particles == 1 else ESTIMATORS[name].bound


__all__ = [
    "ESTIMATORS",
    "Estimator",
    "Exact_ELBO",
    "TraceAnalyticKL_ELBO",
    "TraceDReG_ELBO",
    "TraceDisARM_ELBO",
    "TraceEnumerate_ELBO",
    "TraceGDReG_ELBO",
    "TraceIWAE_ELBO",
    "TraceLeaveOneOut_ELBO",
    "TraceReweightedWakeSleep_ELBO",
    "TraceSTL_ELBO",
    "TraceScoreFunction_ELBO",
    "TraceStraightThrough_ELBO",
    "TraceVIMCO_ELBO",
    "WeightedELBO",
    "bound_of",
    "make",
    "name_of",
    "without_weights",
]
