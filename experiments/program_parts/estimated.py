"""What estimates, trains on or checks an ELBO, against sums over a grid."""

from __future__ import annotations

import math
from functools import partial

import torch
from pyro.infer import Trace_ELBO
from pyro.optim import SGD
from torch import Tensor
from torch.distributions import Distribution

from ppl_vae import CompiledSVI, check_elbo, check_kl, compare_elbos, explain_elbo, fit
from ppl_vae.diagnostics import ElboCheck
from program_parts import answers
from program_parts.cells import RIGHT, WRONG, Cell, judged, slack, z_score
from program_parts.small import Small


def fitted(pair: Small, x: Tensor, count: int) -> Cell:
    """``fit``: the mean of its epochs, at a learning rate of 0."""
    truth = _truth(pair, x) / len(x)
    still = partial(torch.optim.SGD, lr=0.0)
    history = fit(
        pair.subject, x, optimizer=still, num_epochs=count, compile=False, progress=False
    )
    return judged(z_score(torch.tensor(history.train_elbo), truth))


def compiled(pair: Small, x: Tensor, count: int) -> Cell:
    """``CompiledSVI``: the mean of its steps, at a learning rate of 0."""
    svi = CompiledSVI(*pair.functions, SGD({"lr": 0.0}), Trace_ELBO(), backend="eager")
    losses = torch.tensor([svi.step(x) for _ in range(count)])
    return judged(z_score(-losses, _truth(pair, x)))


def compared(pair: Small, x: Tensor, count: int) -> Cell:
    """``compare_elbos``: values and gradients of all estimators that serve."""
    truth, scores = _truth(pair, x), [math.inf]
    for subject in (pair.subject, pair.functions):
        # Where a gradient has no noise, the last digits of the sums over the grid would decide:
        # then gradients are compared among the estimators.
        if math.inf not in scores:
            break
        found = compare_elbos(subject, x, num_replicates=5 * count)
        rows = [row for row in found.rows if row.bound == "elbo"]
        errors = [max(row.value.standard_error, slack(pair)) for row in rows]
        scores = [abs(r.value.mean - truth) / e for r, e in zip(rows, errors, strict=True)]
        scores += [row.gradient_bias_z_score or 0.0 for row in rows]
    return judged(max(scores, key=abs), f" at worst, {len(found.rows)} estimators")


def explained(pair: Small, x: Tensor, count: int) -> Cell:
    """``explain_elbo``: the total of its ledger."""
    truth = _truth(pair, x)
    return judged(explain_elbo("trace", pair.subject, x, num_draws=count).value.z_score(truth))


def right_objective(pair: Small, x: Tensor, count: int) -> Cell:
    """``check_elbo`` of the ELBO as a user writes it."""
    result = check_elbo(
        lambda x: -sum(part.sum() for part in pair.terms(x)), pair.subject, x, reduction="sum"
    )
    return Cell(RIGHT if result.passed else WRONG, "" if result.passed else _first(result))


def half_the_kl(pair: Small, x: Tensor, count: int) -> Cell:
    """``check_elbo`` where the divergence is halved."""

    def half(x: Tensor) -> Tensor:
        likelihood, rest = pair.terms(x)
        return -likelihood.sum() - rest.sum() / 2

    result = check_elbo(half, pair.subject, x, reduction="sum")
    return Cell(WRONG, "not found") if result.passed else Cell(RIGHT, _first(result))


def divergence(pair: Small, x: Tensor, count: int) -> Cell:
    """``check_kl`` of the divergence, sampled or summed."""
    spec = pair.spec
    q, p = pair.posterior(x), spec.prior(pair.prior)

    def kl(q: Distribution, p: Distribution) -> Tensor:
        if q.has_rsample:
            z = q.rsample()
            return q.log_prob(z) - p.log_prob(z)
        z, log_weights = answers.nodes(p)
        z, log_weights = z.unsqueeze(1), log_weights.unsqueeze(1)
        log_q = q.log_prob(z)
        return -answers.elbo(p.log_prob(z).expand_as(log_q), log_q, log_weights)

    result = check_kl(kl, q, p)
    return Cell(RIGHT if result.passed else WRONG, "" if result.passed else _first(result))


def _truth(pair: Small, x: Tensor) -> float:
    return pair.exact.elbo(x).sum().item()


def _first(result: ElboCheck) -> str:
    return str(result.findings[0].message)
