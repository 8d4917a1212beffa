"""ELBO estimators against each other and against the exact answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack

import torch
from pyro.infer import ELBO

from ppl_vae import checks, devices
from ppl_vae.batch import BatchLike, Data
from ppl_vae.diagnostics.comparison.references import (
    Reference,
    choose_reference,
    closed_form_variance,
    exact_reference,
    target,
)
from ppl_vae.diagnostics.comparison.replicates import OVERALL, Replicates, bias_z_score, mean_of
from ppl_vae.diagnostics.comparison.replicator import replicate
from ppl_vae.diagnostics.comparison.result import ElboComparison
from ppl_vae.diagnostics.comparison.row import Row
from ppl_vae.diagnostics.comparison.treatment import LATENT, treatments
from ppl_vae.diagnostics.estimate import Estimate
from ppl_vae.elbos import ESTIMATORS, make, name_of, without_weights
from ppl_vae.elbos.serving import require_served, those_that_serve
from ppl_vae.elbos.sites.draws import Program
from ppl_vae.elbos.sites.kl_plan import CLOSED_FORM
from ppl_vae.elbos.vectorising import vectorised
from ppl_vae.functions import Functions, as_program, copied, require_trainable
from ppl_vae.pair import Pair, leaving_no_params
from ppl_vae.seeding import seeded

MINIMUM_REPLICATES = 10


@checks.own_words()
def compare_elbos(
    pair: Pair | Functions,
    x: BatchLike,
    estimators: Iterable[str] | Mapping[str, ELBO] | None = None,
    *,
    num_replicates: int = 1000,
    num_particles: int | None = None,
    seed: int = 0,
    device: str | torch.device = "auto",
) -> ElboComparison:
    """Measure ELBO estimators at one state of a pair: bias, noise, cost.

    Every estimator gives `num_replicates` values and gradients, each from fresh noise; the noise
    is the same from estimator to estimator, so their differences are sharper than each alone. The
    pair is copied: its parameters, gradients and the global random state stay as they are.

    Args:
        pair: a pair, or any Pyro model and guide as a tuple of two functions.
        x: the data, as model and guide take them: a tensor, a tuple of their arguments, or a
            mapping.
        estimators: names (see `ppl_vae.elbos.ESTIMATORS`), or names with ready estimators; None
            takes all that serve the pair, and says which others do not and why.
        num_replicates: at least 10.
        num_particles: averaged in each estimate; for the estimators given by name. None is the
            fewest that each takes: one, or two where particles are compared. They are drawn
            together where the program allows it.
        seed: of all the noise.
        device: ``auto`` is the GPU where there is one.

    Returns:
        One row an estimator. Values and gradients are of the ELBO summed over the examples of
        `x`, in nats. They are compared with the exact answer where the pair has one, else with
        the pool of the other estimators that claim to be unbiased without a condition.

    Raises:
        TypeError: data or an estimator of a wrong kind.
        ValueError: data that the pair cannot score, an unknown name, a count too small, no
            parameter that requires a gradient.
        NotImplementedError: an estimator that was asked for cannot be right for the pair; the
            site, the reason and the estimators that serve are named.

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
    if num_particles is not None:
        checks.count("num_particles", num_particles)
    if estimators is not None and (
        not isinstance(estimators, Iterable) or torch.is_tensor(estimators)
    ):
        remedy = "For example ['trace', 'analytic-kl']."
        raise checks.type_error("estimators as names", type(estimators).__name__, remedy)
    with leaving_no_params(), ExitStack() as stack:
        if isinstance(pair, Pair):
            pair = copied(pair).to(devices.resolve(device))
        # Functions cannot be copied and stay where they are.
        subject, data = as_program(pair, x)
        stack.enter_context(seeded(seed, subject.device))
        data = data.to(subject.device)
        subject.check(data)
        require_trainable(subject)
        for parameter in subject.parameters():
            stack.callback(setattr, parameter, "grad", parameter.grad)
        chosen, left_out = _choose(estimators, subject, data, num_particles)
        measured = replicate(subject, chosen, data, num_replicates=num_replicates, seed=seed)
        exact = (
            exact_reference(subject, data, num_replicates, seed)
            if hasattr(subject.exact, "elbo")
            else None
        )
        rows = []
        for name, elbo in chosen.items():
            reference = choose_reference(name, chosen, measured, exact)
            rows.append(_row(name, elbo, measured[name], reference, subject, data))
    _rank(rows)
    return ElboComparison(
        rows,
        pair=type(subject).__name__,
        num_examples=subject.num_examples(data),
        exact_value=float(exact.values[0]) if exact else None,
        num_replicates=num_replicates,
        device=str(subject.device),
        dtype=str(subject.dtype).removeprefix("torch."),
        left_out=left_out,
    )


def _row(
    name: str,
    elbo: ELBO,
    found: Replicates,
    reference: Reference | None,
    pair: Pair,
    x: Data,
) -> Row:
    known = name_of(elbo)
    entry = ESTIMATORS.get(known or "")
    plain = entry and without_weights(elbo) is elbo
    closed_form = closed_form_variance(pair, x, known, elbo.num_particles) if plain else {}
    sites = treatments(elbo, pair, x)
    row = Row(
        name=name,
        bound=target(elbo)[0],
        claim=entry.claim if entry else "",
        num_particles=elbo.num_particles,
        condition=entry.condition if entry else "",
        value=found.value(),
        value_variance=found.value_variance(),
        gradient_variance={g: found.gradient_variance(g) for g in found.block_variances},
        signal_to_noise={g: found.signal_to_noise(g) for g in found.block_variances},
        closed_form_gradient_variance=closed_form,
        milliseconds=found.milliseconds,
        quartiles=found.quartiles,
        peak_bytes=found.peak_bytes,
        analytic_sites=tuple(t.site for t in sites if t.role == LATENT and t.how == CLOSED_FORM),
        invalid_sites={t.site: t.why for t in sites if not t.is_valid},
        block_variances={g: blocks.tolist() for g, blocks in found.block_variances.items()},
        sites=tuple(sites),
    )
    if reference is None:
        return row
    # What float arithmetic alone may leave between two ways to compute the same number.
    unit = 100 * torch.finfo(pair.dtype).eps
    bias = mean_of(found.values - reference.values)
    rounding = unit * float(reference.values.abs().max())
    if bias.standard_error <= rounding:
        gap = 0.0 if abs(bias.mean) <= rounding else bias.mean
        bias = Estimate(gap, 0.0, bias.num_samples)
    # A component is a sum over the group's gradient, whose length bounds its rounding.
    size = torch.tensor([found.length(group) for group in pair.parameter_groups()])
    row.reference = reference.name
    row.bias = bias
    row.bias_z_score = bias.z_score(0.0)
    row.gradient_bias_z_score = bias_z_score(found.components - reference.components, unit * size)
    return row


def _rank(rows: list[Row]) -> None:
    """Fill in variance times time, relative to the best estimator that has any variance."""
    work = [row.gradient_variance[OVERALL].mean * row.milliseconds for row in rows]
    best = min((w for w in work if w > 0), default=1.0)
    for row, each in zip(rows, work, strict=True):
        row.relative_work = each / best


def _choose(
    estimators: Iterable[str] | Mapping[str, ELBO] | None,
    pair: Pair,
    x: Data,
    num_particles: int | None,
) -> tuple[dict[str, ELBO], dict[str, str]]:
    """Return the estimators, and why others are left out; raise if one asked for cannot serve."""
    program = Program(pair.model, pair.guide, (x,), {})
    if estimators is None:
        serving, left_out = those_that_serve(program, num_particles=num_particles)
        return {name: vectorised(elbo, program) for name, elbo in serving.items()}, left_out
    if isinstance(estimators, Mapping):
        chosen = {name: make(elbo) for name, elbo in estimators.items()}
    else:
        names = [estimators] if isinstance(estimators, str) else list(estimators)
        chosen = {name: make(name, num_particles=num_particles) for name in names}
    for elbo in chosen.values():
        require_served(elbo, program)
    if not isinstance(estimators, Mapping):
        chosen = {name: vectorised(elbo, program) for name, elbo in chosen.items()}
    return chosen, {}
