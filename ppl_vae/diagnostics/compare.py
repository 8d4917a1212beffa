"""ELBO estimators against each other and against the exact answer."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from pyro.infer import ELBO
from torch import Tensor

from ppl_vae import checks, devices
from ppl_vae.diagnostics.comparison import ElboComparison, Row
from ppl_vae.diagnostics.estimate import Estimate
from ppl_vae.diagnostics.replicates import (
    OVERALL,
    Replicates,
    bias_z_score,
    exact_components,
    mean_of,
    replicate,
)
from ppl_vae.elbos import ESTIMATORS, make
from ppl_vae.pair import Pair, leaving_no_params

MINIMUM_REPLICATES = 10


def compare_elbos(
    pair: Pair,
    x: Tensor,
    estimators: Iterable[str] | Mapping[str, ELBO] | None = None,
    *,
    num_replicates: int = 1000,
    num_particles: int = 1,
    seed: int = 0,
    device: str | torch.device = "auto",
) -> ElboComparison:
    """Measure ELBO estimators at one state of a pair: bias, noise, cost.

    Every estimator gives `num_replicates` values and gradients, each from fresh noise; the noise
    is the same from estimator to estimator, so their differences are sharper than each alone. The
    pair is copied: its parameters, gradients and the global random state stay as they are.

    Args:
        pair: model and guide.
        x: the data, as the pair takes them.
        estimators: names (see `ppl_vae.elbos.ESTIMATORS`), or names with ready estimators; None
            takes all that serve the pair.
        num_replicates: at least 10.
        num_particles: averaged in each estimate; for the estimators given by name.
        seed: of all the noise.
        device: ``auto`` is the GPU where there is one.

    Returns:
        One row an estimator. Values and gradients are of the ELBO summed over the examples of
        `x`, in nats. They are compared with the exact answer where the pair has one, else with
        the pool of the other estimators that claim to be unbiased without a condition.

    Raises:
        TypeError: data or an estimator of a wrong kind.
        ValueError: data that the pair cannot score, an unknown name, a count too small.
        NotImplementedError: an estimator asked for by name cannot serve the pair.

    Example:
        >>> from ppl_vae import ExponentialNormal
        >>> pair = ExponentialNormal()
        >>> x = torch.tensor([1.2, 0.7, 1.1])
        >>> result = compare_elbos(pair, x, ["trace", "exact"], num_replicates=100)
        >>> result["exact"].gradient_variance["overall"].mean
        0.0
        >>> abs(result["trace"].bias_z_score) < 4.5
        True
    """
    checks.count("num_replicates", num_replicates, minimum=MINIMUM_REPLICATES)
    checks.count("num_particles", num_particles)
    pair = copy.deepcopy(pair).to(devices.resolve(device))
    x = checks.floating("x", x).to(pair.device)
    pair.check(x)
    chosen = _choose(estimators, pair, num_particles)
    with leaving_no_params():
        measured = replicate(pair, chosen, x, num_replicates=num_replicates, seed=seed)
    exact = _exact_reference(pair, x, num_replicates, seed) if _has_elbo(pair) else None
    rows = []
    for name, found in measured.items():
        reference = exact or _pooled_reference({n: m for n, m in measured.items() if n != name})
        closed_form = _closed_form_variance(pair, x, name, num_particles) if exact else {}
        rows.append(_row(name, found, reference, closed_form, pair.dtype))
    _rank(rows)
    return ElboComparison(
        rows,
        pair=type(pair).__name__,
        num_examples=pair.num_examples(x),
        exact_value=float(exact.values[0]) if exact else None,
        num_replicates=num_replicates,
        num_particles=num_particles,
        device=str(pair.device),
        dtype=str(pair.dtype).removeprefix("torch."),
    )


@dataclass(frozen=True)
class _Reference:
    """What a row is compared with: replicates, or a constant in their shape."""

    name: str
    values: Tensor
    components: Tensor


def _exact_reference(pair: Pair, x: Tensor, num_replicates: int, seed: int) -> _Reference:
    with torch.no_grad():
        value = pair.exact.elbo(x).sum().double().cpu()
    components = exact_components(pair, x, seed)
    return _Reference(
        "closed form", value.expand(num_replicates), components.expand(num_replicates, -1)
    )


def _pooled_reference(others: dict[str, Replicates]) -> _Reference | None:
    """Return the mean of those that claim to be unbiased wherever they serve, replicate by one."""
    pool = [n for n in others if n in ESTIMATORS and ESTIMATORS[n].is_always_unbiased]
    if not pool:
        return None
    return _Reference(
        " + ".join(pool),
        torch.stack([others[n].values for n in pool]).mean(0),
        torch.stack([others[n].components for n in pool]).mean(0),
    )


def _row(
    name: str,
    found: Replicates,
    reference: _Reference | None,
    closed_form: dict[str, float],
    dtype: torch.dtype,
) -> Row:
    entry = ESTIMATORS.get(name)
    row = Row(
        name=name,
        claim=entry.value if entry else "",
        value=found.value(),
        value_variance=found.value_variance(),
        gradient_variance={g: found.gradient_variance(g) for g in found.block_variances},
        signal_to_noise={g: found.signal_to_noise(g) for g in found.block_variances},
        closed_form_gradient_variance=closed_form,
        milliseconds=found.milliseconds,
        peak_bytes=found.peak_bytes,
    )
    if reference is None:
        return row
    # What float arithmetic alone may leave between two ways to compute the same number.
    unit = 100 * torch.finfo(dtype).eps
    bias = mean_of(found.values - reference.values)
    rounding = unit * float(reference.values.abs().max())
    if bias.standard_error <= rounding:
        gap = 0.0 if abs(bias.mean) <= rounding else bias.mean
        bias = Estimate(gap, 0.0, bias.num_samples)
    size = found.components.abs().amax(0).maximum(reference.components.abs().amax(0))
    row.reference = reference.name
    row.bias = bias
    row.bias_z_score = bias.z_score(0.0)
    row.gradient_bias_z_score = bias_z_score(found.components - reference.components, unit * size)
    return row


def _closed_form_variance(
    pair: Pair, x: Tensor, name: str, num_particles: int
) -> dict[str, float]:
    """Return the closed-form gradient variance by parameter group, where the pair knows it."""
    formula = getattr(pair.exact, "gradient_variance", None)
    if formula is None:
        return {}
    if name == "exact":
        return {OVERALL: 0.0}
    try:
        variances = formula(x, estimator=name)
    except ValueError:  # an estimator that the formula does not cover
        return {}
    groups = {
        group: sum(float(variances[n].sum()) for n in members) / num_particles
        for group, members in pair.parameter_groups().items()
    }
    return {**groups, OVERALL: sum(groups.values())}


def _rank(rows: list[Row]) -> None:
    """Fill in variance times time, relative to the best estimator that has any variance."""
    work = [row.gradient_variance[OVERALL].mean * row.milliseconds for row in rows]
    best = min((w for w in work if w > 0), default=1.0)
    for row, each in zip(rows, work, strict=True):
        row.relative_work = each / best


def _has_elbo(pair: Pair) -> bool:
    return hasattr(pair.exact, "elbo")


def _choose(
    estimators: Iterable[str] | Mapping[str, ELBO] | None, pair: Pair, num_particles: int
) -> dict[str, ELBO]:
    if isinstance(estimators, Mapping):
        return {name: make(elbo) for name, elbo in estimators.items()}
    if estimators is not None:
        names = [estimators] if isinstance(estimators, str) else list(estimators)
        chosen = {name: make(name, num_particles=num_particles) for name in names}
        if "exact" in chosen and not _has_elbo(pair):
            raise NotImplementedError(
                checks.message(
                    "a pair with a closed-form ELBO for the estimator 'exact'",
                    type(pair).__name__,
                    "Leave 'exact' out.",
                )
            )
        return chosen
    return {
        name: entry.make(num_particles=num_particles)
        for name, entry in ESTIMATORS.items()
        if name != "exact" or _has_elbo(pair)
    }
