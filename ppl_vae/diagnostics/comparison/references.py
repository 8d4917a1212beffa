"""What the estimators in a comparison are compared with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pyro.infer import ELBO
from torch import Tensor

from ppl_vae.batch import Data
from ppl_vae.diagnostics.comparison.replicates import OVERALL, Replicates
from ppl_vae.diagnostics.comparison.replicator import exact_components
from ppl_vae.elbos import ESTIMATORS, bound_of, name_of
from ppl_vae.pair import Pair

POOLED = "the unbiased, pooled"
# On a single site whose KL is valid, the two have the same gradient, draw by draw.
SAME_GRADIENT = {"analytic-kl": "trace-mean-field", "trace-graph": "trace"}


@dataclass(frozen=True)
class Reference:
    """What a row is compared with: replicates, or a constant in their shape."""

    name: str
    values: Tensor
    components: Tensor


def exact_reference(pair: Pair, x: Data, num_replicates: int, seed: int) -> Reference:
    """Return the pair's closed form, in the shape of the replicates."""
    with torch.no_grad():
        value = pair.exact.elbo(x).sum().double().cpu()
    components = exact_components(pair, x, seed)
    return Reference(
        "closed form", value.expand(num_replicates), components.expand(num_replicates, -1)
    )


def choose_reference(
    name: str,
    chosen: dict[str, ELBO],
    measured: dict[str, Replicates],
    exact: Reference | None,
) -> Reference | None:
    """Return the closed form, or the pool of the others that estimate the same without bias."""
    aim = target(chosen[name])
    if exact is not None and aim == ("elbo", 1):
        return exact
    pool = [
        other
        for other, elbo in chosen.items()
        if other != name and target(elbo) == aim and _is_always_unbiased(elbo)
    ]
    if not pool:
        return None
    members = [measured[n] for n in pool]
    return Reference(
        pool[0] if len(pool) == 1 else POOLED,
        _pooled([m.values for m in members], [m.value_variance().mean for m in members]),
        _pooled([m.components for m in members], [m.gradient_variance().mean for m in members]),
    )


def _pooled(samples: list[Tensor], variances: list[float]) -> Tensor:
    """Return the mean of several estimators' samples, weighed by their precision."""
    weights = 1 / torch.tensor(variances, dtype=torch.float64).clamp_min(1e-300)
    weights = weights / weights.sum()
    return torch.stack([w * s for w, s in zip(weights, samples, strict=True)]).sum(0)


def target(elbo: ELBO) -> tuple[str, int]:
    """Return what is estimated: the particles of an importance-weighted bound are part of it."""
    bound = bound_of(elbo)
    return bound, 1 if bound.startswith("elbo") else elbo.num_particles


def _is_always_unbiased(elbo: ELBO) -> bool:
    name = name_of(elbo)
    return name is not None and ESTIMATORS[name].is_always_unbiased


def closed_form_variance(
    pair: Pair, x: Data, name: str | None, num_particles: int
) -> dict[str, float]:
    """Return the closed-form gradient variance by parameter group, where the pair knows it."""
    formula = getattr(pair.exact, "gradient_variance", None)
    if formula is None or name is None or ESTIMATORS[name].bound != "elbo":
        return {}
    if name == "exact":
        return {OVERALL: 0.0}
    try:
        variances = formula(x, estimator=SAME_GRADIENT.get(name, name))
    except ValueError:  # an estimator that the formula does not cover
        return {}
    groups = {
        group: sum(float(variances[n].sum()) for n in members) / num_particles
        for group, members in pair.parameter_groups().items()
    }
    return {**groups, OVERALL: sum(groups.values())}
