"""What is measured of a program as it is: evidence, gaps, and what its latents hold."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal

from ppl_vae import active_units, aggregate_posterior, evaluate, inference_gap, log_evidence
from program_parts import answers
from program_parts.cells import REFUSED, RIGHT, WRONG, Z_LIMIT, Cell, judged, slack
from program_parts.small import Small

UNTRUSTED = Cell(REFUSED, "Pareto k above 0.7 says that the weights cannot be trusted")
# Of active units, whose errors are those of means over so many seeds.
SEEDS = 24


def evidence(method: str) -> Callable[[Small, Tensor, int], Cell]:
    """Return the entry point ``log_evidence`` with a method."""

    def cell(pair: Small, x: Tensor, count: int) -> Cell:
        plate = pair.spec.plate
        found = log_evidence(pair.subject, x, method=method, num_samples=100 * count, plate=plate)
        gap = found.mean - pair.exact.log_evidence(x).detach()
        if method == "quadrature":
            within = bool((gap.abs() <= found.standard_error + slack(pair)).all())
            return Cell(RIGHT if within else WRONG, f"{float(gap.abs().max()):.0e} nats")
        if bool((found.pareto_k > 0.7).any()):
            return UNTRUSTED
        return judged(_of_weights(gap, found.standard_error))

    return cell


def evaluated(pair: Small, x: Tensor, count: int) -> Cell:
    """``evaluate``: its ELBOs and its evidences."""
    found = evaluate(pair.subject, x, num_samples=100 * count, num_elbo_samples=10 * count)
    if bool((found.evidence.pareto_k > 0.7).any()):
        return UNTRUSTED
    gap = found.evidence.mean - pair.exact.log_evidence(x).detach()
    elbo = (found.elbo.mean - pair.exact.elbo(x).detach()) / found.elbo.standard_error
    return judged(max(float(elbo.abs().max()), _of_weights(gap, found.evidence.standard_error)))


def gap(pair: Small, x: Tensor, count: int) -> Cell:
    """``inference_gap``: evidence, the ELBO of the guide, and that of the best Gaussian."""
    found = inference_gap(pair.subject, x, family="full")
    log_p, log_q, log_weights = pair.exact.terms(x, fine=True)
    elbo = answers.elbo(log_p, log_q, log_weights)
    z = answers.nodes(pair.spec.prior(pair.prior), pair.spec.dims, fine=True)[0]
    best = torch.distributions.MultivariateNormal(found.best.loc, scale_tril=found.best.scale_tril)
    log_best = best.log_prob(z.reshape(len(z), 1, -1))
    errors = {
        "log p(x)": (found.log_evidence, answers.log_evidence(log_p, log_weights)),
        "ELBO": (found.elbo, elbo),
        "best ELBO": (found.best_elbo, answers.elbo(log_p, log_best, log_weights)),
    }
    worst = 0.0
    for estimate, truth in errors.values():
        truth = truth.detach()
        miss = (estimate.mean - truth).abs()
        allowed = Z_LIMIT * estimate.standard_error + slack(pair) * truth.abs().clamp(min=1.0)
        worst = max(worst, float((miss / allowed).max()))
    return Cell(RIGHT if worst <= 1 else WRONG, f"{worst:.2f} of what is allowed")


def units(pair: Small, x: Tensor, count: int) -> Cell:
    """``active_units``: the variance of E[z | x] over the examples."""
    found = [active_units(pair.subject, x, num_samples=count, seed=n) for n in range(SEEDS)]
    variances = torch.stack([each["z"].variance for each in found])
    _, log_q, log_weights = pair.exact.terms(x)
    z = answers.nodes(pair.spec.prior(pair.prior), pair.spec.dims)[0]
    share = (log_q + log_weights).exp().nan_to_num(0.0)
    means = torch.einsum("ne,nd->ed", share, z.reshape(len(z), -1).to(share.dtype))
    error = variances.std(0) / SEEDS**0.5
    miss = (variances.mean(0) - means.var(0)).detach()
    return judged(float((miss / error.clamp(min=1e-9)).abs().max()))


def aggregate(pair: Small, x: Tensor, count: int) -> Cell:
    """``aggregate_posterior``: the mean KL, and that of the mixture."""
    found = aggregate_posterior(pair.subject, x, num_samples=20 * count)
    _, log_q, log_weights = pair.exact.terms(x)
    z = answers.nodes(pair.spec.prior(pair.prior))[0]
    log_p = Normal(0.0, 1.0).log_prob(z)[:, None]
    mean_kl = float(-answers.elbo(log_p.expand_as(log_q), log_q, log_weights).mean().detach())
    mixture = (log_q.logsumexp(1) - torch.tensor(len(x)).log())[:, None]
    kl = -answers.elbo(log_p, mixture, log_weights).squeeze().detach()
    if abs(found.mean_kl - mean_kl) > slack(pair):
        return Cell(WRONG, f"mean KL {found.mean_kl} for {mean_kl}")
    return judged(found.aggregate_kl.z_score(float(kl)))


def _of_weights(gap: Tensor, error: Tensor) -> float:
    """Return the largest miss in standard errors, less half their squares, as the bound is low."""
    return float(((gap.abs() - error.square()) / error).max())
