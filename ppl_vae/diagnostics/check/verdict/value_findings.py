"""What an explanation says is wrong, in words."""

from __future__ import annotations

from collections.abc import Iterator

from ppl_vae.diagnostics.check.explanation import Explanation
from ppl_vae.diagnostics.check.statistics import ONE
from ppl_vae.diagnostics.check.verdict.other_prior import other_prior
from ppl_vae.diagnostics.check.verdict.result import Finding
from ppl_vae.diagnostics.check.verdict.simple_ratios import (
    Quantities,
    constant,
    near,
    ratio,
    shown,
)
from ppl_vae.diagnostics.estimate import Estimate

DATA_ONLY = " This is a constant that depends on the data only: gradients are right."
TERMS = {"L": "log_likelihood", "P": "log_prior", "H": "entropy", "KL": "kl"}
PIECES = {
    "L:ones": ("log_likelihood", "the part of the pixels that are 1, x log p,"),
    "L:zeros": ("log_likelihood", "the part of the pixels that are 0, (1 - x) log(1 - p),"),
    "L:squares": ("log_likelihood", "the squared error, -((x - loc) / scale)^2 / 2,"),
    "L:log": ("log_likelihood", "the likelihood's -log(scale)"),
    "P:loc^2": ("log_prior", "the log-prior's part of the guide's locations, -sum(loc^2) / 2,"),
    "P:scale^2": ("log_prior", "the log-prior's part of the guide's scales, -sum(scale^2) / 2,"),
    "P:log": ("log_prior", "the prior's -log(scale)"),
    "H:log": ("entropy", "the entropy's sum(log scale)"),
}


def findings(
    explanation: Explanation, quantities: Quantities, *, kind: str, ignore_constants: bool
) -> list[Finding]:
    """Return what an explanation says is wrong, the formula first."""
    prior = other_prior(explanation, quantities)
    if prior is not None:
        return [prior]
    found = []
    candidate = explanation.candidate
    if candidate.message:
        message = candidate.message
        if "extra" in candidate.roles:
            message = f"{message[:-1]} (weight {shown(explanation.weight('extra'))})."
        if "L" in explanation.of_data and not explanation.is_off("L"):
            found.append(Finding("constant", "constant", "0", "another", message + DATA_ONLY))
        else:
            found.append(Finding(candidate.kind, candidate.term, "the ELBO", "another", message))
    if candidate.pieces:
        pieces = _piece_findings(explanation, quantities)
        found += [f for f in pieces if not (ignore_constants and f.kind == "constant")]
    else:
        found += _weight_findings(explanation, quantities, kind)
    if not ignore_constants and explanation.constant_is_off:
        found.append(_constant_finding(explanation, quantities))
    return found


def _weight_findings(e: Explanation, q: Quantities, kind: str) -> list[Finding]:
    roles = [role for role in e.candidate.roles if role in TERMS and role not in e.candidate.free]
    off = [role for role in roles if e.is_off(role)]
    weights = {role: e.weight(role) for role in roles}

    def alike(*some: str) -> bool:
        first, *others = (weights[role] for role in some)
        return bool(others) and all(
            near(w.mean, first.mean, w.standard_error + first.standard_error) for w in others
        )

    if off and off == roles and alike(*roles):
        return [_weighed("objective", "the whole objective", weights["L"], q, kind)]
    kl = []
    if {"P", "H"}.issubset(off) and alike("P", "H"):
        off = [role for role in off if role not in ("P", "H")]
        kl = [_weighed("kl", "the KL", weights["P"], q, kind)]
    names = TERMS | {"KL": "the KL"}
    return [_weighed(TERMS[role], names[role], weights[role], q, kind) for role in off] + kl


def _weighed(term: str, name: str, weight: Estimate[float], q: Quantities, kind: str) -> Finding:
    value, cause = ratio(weight.mean, weight.standard_error, q)
    is_negative = value.startswith("-")
    if value == "0":
        message = f"{name} is missing: its weight is {shown(weight)}; {cause}"
        return Finding("missing", term, "1", shown(weight), message)
    if term == "objective" and is_negative:
        cause = f"the sign is wrong: is this kind={'elbo' if kind == 'loss' else 'loss'!r}?"
    is_fraction = "/" in value and value != "1/2"
    if term == "kl" and weight.mean > 0 and not is_fraction:
        beta = f"this is a beta-VAE with beta = {value or f'{weight.mean:.4g}'}"
        cause = f"{beta}, or {cause}" if cause else beta
    verb = "has" if term in ("kl", "objective") else "enters with"
    equal = f" = {value}" if value else ""
    message = f"{name} {verb} weight {shown(weight)}{equal}{f': {cause}' if cause else ', not 1'}"
    return Finding("sign" if is_negative else "weight", term, "1", shown(weight), message)


def _piece_findings(e: Explanation, q: Quantities) -> Iterator[Finding]:
    for role, column in e.candidate.roles.items():
        weight = e.weight(role)
        estimate = shown(weight)
        if role == "extra":
            message = f"{column} enters with weight {estimate}: a square left out, or a shift?"
            yield Finding("extra", "kl", "0", estimate, message)
        if role in ("rest", "extra") or not e.is_off(role):
            continue
        value, cause = ratio(weight.mean, weight.standard_error, q)
        term, name = _piece(role)
        if value == "0":
            kind, message = "missing", f"{name} is missing (weight {estimate})."
        else:
            kind = "sign" if value.startswith("-") else "part"
            equal = f" = {value}" if value else ""
            message = f"{name} has weight {estimate}{equal}{f': {cause}' if cause else ''}"
        if role in e.of_data:
            kind = term = "constant"
            message += DATA_ONLY
        yield Finding(kind, term, "1", estimate, message)


def _piece(role: str) -> tuple[str, str]:
    if role in TERMS:
        return TERMS[role], TERMS[role]
    if role in PIECES:
        return PIECES[role]
    if role.startswith("L:"):
        return "log_likelihood", f"the log-likelihood's part {role[2:]}"
    if role.startswith("J:"):
        term = "entropy" if "guide" in role else "log_prior"
        return term, f"the log-determinant of the flow, log |det dz/dz0|, in the {role[2:]}"
    term = "log_prior" if role.startswith("P:") else "entropy"
    return term, f"{term} of {role.partition(':')[2]}"


def _constant_finding(e: Explanation, q: Quantities) -> Finding:
    value, error = e.fit[ONE], e.fit.error(ONE)
    weights = {
        term: e.weight(role).mean if role in e.candidate.roles else 1.0
        for role, term in TERMS.items()
        if role != "KL"
    }
    cause = constant(value, error, q, weights) or "a dropped or added constant"
    estimate = shown(Estimate(value, error, e.fit.replicates))
    message = (
        f"constant {estimate} per example in the ELBO: {cause} (the gradient is not affected)."
    )
    return Finding("constant", "constant", "0", estimate, message)
