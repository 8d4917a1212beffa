"""The ELBO estimators, by name, with what each claims; a test measures the claims."""

from __future__ import annotations

from pyro.infer import ELBO, Trace_ELBO, TraceMeanField_ELBO

from ppl_vae import checks
from ppl_vae.elbos.estimator import Estimator
from ppl_vae.elbos.exact import Exact_ELBO

ESTIMATORS: dict[str, Estimator] = {
    "trace": Estimator(
        Trace_ELBO,
        bound="elbo",
        value="unbiased",
        gradient="unbiased",
        cost="one pass through guide and model",
        source="Wingate and Weber 2013; Ranganath, Gerrish and Blei 2014",
    ),
    "trace-mean-field": Estimator(
        TraceMeanField_ELBO,
        bound="elbo",
        value="unbiased",
        gradient="unbiased",
        condition="no latent's parents in the model descend from it in the guide",
        needs=("reparameterised sites", "a registered KL, else it samples silently"),
        cost="one pass through guide and model",
        source="Kingma and Welling 2014, equation 7",
    ),
    "exact": Estimator(
        Exact_ELBO,
        bound="elbo",
        value="exact",
        gradient="exact",
        needs=("a pair with a closed form",),
        cost="one evaluation of the closed form",
        source="ppl_vae.closed_forms",
    ),
}


def make(elbo: str | ELBO, *, num_particles: int = 1) -> ELBO:
    """Return the estimator that is meant: one that is ready, or a name in `ESTIMATORS`.

    Args:
        elbo: a ``pyro.infer.ELBO``, which is returned as it is, or a name.
        num_particles: for a name, how many particles each estimate averages.

    Raises:
        ValueError: an unknown name (the nearest known one is suggested), or `num_particles` < 1.
        TypeError: `elbo` is neither.

    Example:
        >>> type(make("trace")).__name__
        'Trace_ELBO'
    """
    if isinstance(elbo, ELBO):
        return elbo
    if not isinstance(elbo, str):
        raise TypeError(
            checks.message(
                "elbo as an estimator's name or a pyro.infer.ELBO",
                type(elbo).__name__,
                f"Known names: {', '.join(ESTIMATORS)}.",
            )
        )
    checks.name("estimator", elbo, ESTIMATORS)
    return ESTIMATORS[elbo].make(num_particles=num_particles)


__all__ = ["ESTIMATORS", "Estimator", "Exact_ELBO", "make"]
