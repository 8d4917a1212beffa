"""What each entry point makes of a program: right, refused with a reason, or neither."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from pyro.infer import Trace_ELBO
from pyro.optim import SGD
from torch import Tensor
from torch.distributions import Distribution

from ppl_vae import (
    CompiledSVI,
    check_elbo,
    check_kl,
    compare_elbos,
    explain_elbo,
    fit,
    log_evidence,
)
from program_parts import answers
from program_parts.small import Small, Spec

Z_LIMIT = 4.5
RIGHT, REFUSED = "right", "refused"


@dataclass(frozen=True)
class Cell:
    """One entry point on one program.

    Attributes:
        verdict: ``right``, ``refused``, or ``WRONG``.
        detail: the error in standard errors or in nats, or the reason.
    """

    verdict: str
    detail: str

    def __str__(self) -> str:
        return f"{self.verdict}: {self.detail}" if self.detail else self.verdict


def _judged(z: float, beside: str = "") -> Cell:
    verdict = RIGHT if abs(z) <= Z_LIMIT else "WRONG"
    return Cell(verdict, f"z {z:.1f}{beside}")


def _fit(pair: Small, x: Tensor, count: int) -> Cell:
    truth = _truth(pair, x) / pair.num_examples(x)
    still = lambda parameters: torch.optim.SGD(parameters, lr=0.0)  # noqa: E731
    history = fit(pair, x, optimizer=still, num_epochs=count, compile=False, progress=False)
    return _judged(_z(torch.tensor(history.train_elbo), truth))


def _compiled(pair: Small, x: Tensor, count: int) -> Cell:
    svi = CompiledSVI(pair.model, pair.guide, SGD({"lr": 0.0}), Trace_ELBO(), backend="eager")
    losses = torch.tensor([svi.step(x) for _ in range(count)])
    return _judged(_z(-losses, _truth(pair, x)))


def _compare(pair: Small, x: Tensor, count: int) -> Cell:
    truth, scores = _truth(pair, x), [math.inf]
    for subject in (pair, (pair.model, pair.guide)):
        # Where a gradient has no noise, the last digits of the sums over the grid would decide:
        # then gradients are compared among the estimators.
        if math.inf not in scores:
            break
        found = compare_elbos(subject, x, num_replicates=5 * count)
        rows = [row for row in found.rows if row.bound == "elbo"]
        errors = [max(row.value.standard_error, _slack(pair)) for row in rows]
        scores = [abs(r.value.mean - truth) / e for r, e in zip(rows, errors, strict=True)]
        scores += [row.gradient_bias_z_score or 0.0 for row in rows]
    return _judged(max(scores, key=abs), f" at worst, {len(found.rows)} estimators")


def _explain(pair: Small, x: Tensor, count: int) -> Cell:
    truth = _truth(pair, x)
    return _judged(explain_elbo("trace", pair, x, num_draws=count).value.z_score(truth))


def _right_objective(pair: Small, x: Tensor, count: int) -> Cell:
    result = check_elbo(
        lambda x: -sum(part.sum() for part in pair.terms(x)), pair, x, reduction="sum"
    )
    return Cell(RIGHT if result.passed else "WRONG", "" if result.passed else _first(result))


def _wrong_objective(pair: Small, x: Tensor, count: int) -> Cell:
    def half(x: Tensor) -> Tensor:
        likelihood, rest = pair.terms(x)
        return -likelihood.sum() - rest.sum() / 2

    result = check_elbo(half, pair, x, reduction="sum")
    return Cell("WRONG", "not found") if result.passed else Cell(RIGHT, _first(result))


def _evidence(method: str) -> Callable[[Small, Tensor, int], Cell]:
    def cell(pair: Small, x: Tensor, count: int) -> Cell:
        plate = pair.spec.plate
        found = log_evidence(pair, x, method=method, num_samples=100 * count, plate=plate)
        gap = found.mean - pair.exact.log_evidence(x).detach()
        if method == "quadrature":
            within = bool((gap.abs() <= found.standard_error + _slack(pair)).all())
            return Cell(RIGHT if within else "WRONG", f"{float(gap.abs().max()):.0e} nats")
        # The bound is too low by half its squared error, and heavy weights have no error.
        score = (gap.abs() - found.standard_error.square()) / found.standard_error
        if bool((found.pareto_k > 0.7).any()):
            return Cell(REFUSED, "Pareto k above 0.7 says that the weights cannot be trusted")
        return _judged(float(score.max()))

    return cell


def _kl(pair: Small, x: Tensor, count: int) -> Cell:
    spec = pair.spec
    q, p = spec.posterior(pair.encoder, x), spec.prior(pair.prior)

    def kl(q: Distribution, p: Distribution) -> Tensor:
        if q.has_rsample:
            z = q.rsample()
            return q.log_prob(z) - p.log_prob(z)
        z, log_weights = answers.nodes(p)
        z, log_weights = z.unsqueeze(1), log_weights.unsqueeze(1)
        log_q = q.log_prob(z)
        return -answers.elbo(p.log_prob(z).expand_as(log_q), log_q, log_weights)

    result = check_kl(kl, q, p)
    return Cell(RIGHT if result.passed else "WRONG", "" if result.passed else _first(result))


def _slack(pair: Small) -> float:
    return 1e-9 if pair.spec.smooth else 1e-4


def _truth(pair: Small, x: Tensor) -> float:
    return pair.exact.elbo(x).sum().item()


def _first(result: object) -> str:
    return str(result.findings[0].message)  # pyright: ignore[reportAttributeAccessIssue]


def _z(samples: Tensor, truth: float) -> float:
    gap = float(samples.double().mean()) - truth
    error = float(samples.double().std()) / math.sqrt(len(samples))
    rounding = 1e-9 * max(1.0, abs(truth))
    return 0.0 if abs(gap) <= rounding else gap / max(error, rounding)


ENTRY_POINTS: dict[str, Callable[[Small, Tensor, int], Cell]] = {
    "fit": _fit,
    "CompiledSVI": _compiled,
    "compare_elbos": _compare,
    "explain_elbo": _explain,
    "check_elbo, right": _right_objective,
    "check_elbo, KL halved": _wrong_objective,
    "check_kl": _kl,
    "log_evidence, iwae": _evidence("iwae"),
    "log_evidence, quadrature": _evidence("quadrature"),
}


def cell(entry_point: str, spec: Spec, *, count: int, seed: int) -> Cell:
    """Run an entry point on a program, from a fresh state."""
    torch.manual_seed(seed)
    try:
        return ENTRY_POINTS[entry_point](Small(spec), spec.x, count)
    except (ValueError, TypeError, NotImplementedError) as error:
        words = str(error)
        if words.startswith("expected ") and "; got " in words:
            return Cell(REFUSED, words)
        return Cell("RAW ERROR", f"{type(error).__name__}: {words[:200]}")
    except Exception as error:  # whatever a user would see
        return Cell("RAW ERROR", f"{type(error).__name__}: {str(error)[:200]}")
