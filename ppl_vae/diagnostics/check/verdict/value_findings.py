"""What an explanation says is wrong, in words."""

from __future__ import annotations

from ppl_vae.diagnostics.check.explanation import Explanation, constant_is_off
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
    found = []
    candidate = explanation.candidate
    prior = other_prior(explanation, quantities)
    if prior is not None:
        return [prior]
    if candidate.message:
        message = candidate.message
        if "extra" in candidate.roles:
            weight = explanation.weight("extra")
            message = f"{message[:-1]} (weight {shown(weight)})."
        if "L" in explanation.of_data and not explanation.is_off("L"):
            message += DATA_ONLY
            found.append(Finding("constant", "constant", "0", "another", message))
        else:
            found.append(Finding(candidate.kind, candidate.term, "the ELBO", "another", message))
    if candidate.pieces:
        found += [
            each
            for each in _piece_findings(explanation, quantities)
            if not (ignore_constants and each.kind == "constant")
        ]
    else:
        found += _weight_findings(explanation, quantities, kind)
    if not ignore_constants and ONE in explanation.fit.names:
        found += _constant_findings(explanation, quantities)
    return found


def _weight_findings(e: Explanation, q: Quantities, kind: str) -> list[Finding]:
    roles = [role for role in e.candidate.roles if role in TERMS and role not in e.candidate.free]
    off = [role for role in roles if e.is_off(role)]
    if not off:
        return []
    weights = {role: e.weight(role) for role in roles}

    def alike(some: list[str]) -> bool:
        first = weights[some[0]]
        return len(some) > 1 and all(
            near(w.mean, first.mean, w.standard_error + first.standard_error)
            for w in (weights[role] for role in some)
        )

    if len(off) == len(roles) and alike(roles):
        return [_weighed("objective", "the whole objective", weights["L"], q, kind)]
    found = []
    if "P" in off and "H" in off and alike(["P", "H"]):
        off = [role for role in off if role not in ("P", "H")]
        found.append(_weighed("kl", "the KL", weights["P"], q, kind))
    named = {"L": "log_likelihood", "P": "log_prior", "H": "entropy", "KL": "the KL"}
    return [_weighed(TERMS[role], named[role], weights[role], q, kind) for role in off] + found


def _weighed(term: str, what: str, weight: Estimate[float], q: Quantities, kind: str) -> Finding:
    value, cause = ratio(weight.mean, weight.standard_error, q)
    told = shown(weight)
    if term == "objective" and value.startswith("-"):
        other = "elbo" if kind == "loss" else "loss"
        cause = f"the sign is wrong: is this kind={other!r}?"
    if value == "0":
        message = f"{what} is missing: its weight is {told}; {cause}"
        return Finding("missing", term, "1", shown(weight), message)
    text = (
        f"{what} has weight {told}"
        if term in ("kl", "objective")
        else (f"{what} enters with weight {told}")
    )
    if value:
        text += f" = {value}"
    is_fraction = "/" in value and "1/2" != value
    if term == "kl" and weight.mean > 0 and not is_fraction:
        beta = value or f"{weight.mean:.4g}"
        said = f"this is a beta-VAE with beta = {beta}"
        cause = f"{said}, or {cause}" if cause else said
    message = f"{text}: {cause}" if cause else f"{text}, not 1"
    return Finding(
        "sign" if value.startswith("-") else "weight", term, "1", shown(weight), message
    )


def _piece_findings(e: Explanation, q: Quantities) -> list[Finding]:
    found = []
    for role in e.candidate.roles:
        weight = e.weight(role)
        if role == "extra":
            told = f"{e.candidate.roles[role]} enters with weight {shown(weight)}"
            message = f"{told}: a square left out, or a shift?"
            found.append(Finding("extra", "kl", "0", shown(weight), message))
        if role in ("rest", "extra") or not e.is_off(role):
            continue
        value, cause = ratio(weight.mean, weight.standard_error, q)
        term, words = _piece(role)
        told = shown(weight)
        equal = f" = {value}" if value else ""
        if value == "0":
            kind, message = "missing", f"{words} is missing (weight {told})."
        else:
            kind = "sign" if value.startswith("-") else "part"
            message = f"{words} has weight {told}{equal}{': ' + cause if cause else ''}"
        if role in e.of_data:
            kind = term = "constant"
            message += DATA_ONLY
        found.append(Finding(kind, term, "1", shown(weight), message))
    return found


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


def _constant_findings(e: Explanation, q: Quantities) -> list[Finding]:
    if not constant_is_off(e):
        return []
    value, error = e.fit[ONE], e.fit.error(ONE)
    weights: dict[str, float] = dict.fromkeys(("log_likelihood", "log_prior", "entropy"), 1.0)
    for role, term in TERMS.items():
        if role in e.candidate.roles and term in weights:
            weights[term] = e.weight(role).mean
    for role, term in (("L:squares", "log_likelihood"),):
        if role in e.candidate.roles:
            weights[term] = 1.0
    cause = constant(value, error, q, weights)
    told = shown(Estimate(value, error, e.fit.replicates))
    message = f"constant {told} per example in the ELBO"
    message += f": {cause}" if cause else ": a dropped or added constant"
    message += " (the gradient is not affected)."
    return [Finding("constant", "constant", "0", told, message)]
