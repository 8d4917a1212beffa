"""Formulas that an objective may be, beside the right one, to be fitted one by one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ppl_vae.diagnostics.check.explanation.candidate import (
    Candidate,
    wrong_draws,
    wrong_likelihoods,
)
from ppl_vae.diagnostics.check.statistics import Regression


def candidates(table: Regression) -> Iterator[Candidate]:
    """Yield the formulas that the table's columns allow, the simplest first."""
    columns = set(table.samples[0].columns)
    noise = table.noise
    right = {"L": "L", "P": "P", "H": "H"}
    yield Candidate("weight", "objective", "", right, noise)
    tied = {"L": "L", "KL": table.add("KL", {"P": 1.0, "H": 1.0})}
    yield Candidate("weight", "objective", "", tied, noise)
    yield from _by_batch(table, right, noise)
    yield from _pieces(table, columns, noise)
    yield from wrong_draws(columns, noise)
    yield from wrong_likelihoods(columns, noise)
    yield from _wrong_divergences(table, columns, noise)
    yield from _bounds(columns)
    yield from _extras(table, columns, right, noise)


def _by_batch(table: Regression, right: dict[str, str], noise: list[str]) -> Iterator[Candidate]:
    """Yield formulas in which some terms are multiplied or divided by the batch's size."""
    size = table.batch_size
    if np.ptp(size) == 0:
        return
    for power, word in ((1.0, "multiplied"), (-1.0, "divided")):
        for roles, what in (
            (("L", "P", "H"), "objective"),
            (("L",), "log_likelihood"),
            (("P", "H"), "kl"),
            (("P",), "log_prior"),
            (("H",), "entropy"),
        ):
            if not any(table.means(role).any() for role in roles):
                continue  # there is no such term
            changed, scaled = dict(right), []
            for role in roles:
                changed[role] = table.add(f"{role}*B^{power:g}", {role: 1.0}, size**power)
            for name in noise:
                if name[1] in roles:
                    name = table.add(f"{name}*B^{power:g}", {name: 1.0}, size**power)
                scaled.append(name)
            whole = what == "objective"
            told = "the whole objective" if whole else f"the {_name(what)}"
            verb = "summed over the batch" if power > 0 else "averaged over the batch"
            which = f"{told} is {word} by the batch size: {verb}"
            hint = "not per example: off by the batch size" if whole else "where the rest is not"
            yield Candidate("reduction", what, f"{which}, {hint}.", changed, scaled, cost=3.0)


def _pieces(table: Regression, columns: set[str], noise: list[str]) -> Iterator[Candidate]:
    """Yield the right formula with a weight for every piece of its terms."""
    likelihood = [n for n in columns if n.startswith("L:")]
    latent = [n for n in ("P:loc^2", "P:scale^2", "P:log", "H:log") if n in columns]
    latent = [n for n in latent if n[0] == "L" or f"~{n[0]}:" in "".join(noise)]
    sites = [n for n in columns if n[:2] in ("P:", "H:") and f"~{n}" in columns]
    sites += [n for n in columns if n[:2] in ("P:", "H:") and _is_site(n, columns)]
    sites = sorted(set(sites))

    def varies(name: str) -> bool:
        return bool(np.ptp(table.means(name)) > 1e-6 * table.scale.mean())

    def split(names: list[str], terms: tuple[str, ...]) -> dict[str, str]:
        rest = {term: 1.0 for term in terms} | {n: -1.0 for n in names}
        key = "rest " + " ".join(names)
        return {"rest": table.add(key, rest)}

    likelihood = sorted(n for n in likelihood if varies(n))
    latent = [n for n in latent if varies(n)]
    if likelihood:
        roles = {n: n for n in likelihood} | {"P": "P", "H": "H"} | split(likelihood, ("L",))
        yield Candidate("part", "log_likelihood", "", roles, noise, cost=4.0, pieces=True)
    for name in sorted(n for n in columns if n.startswith("J:")):
        term = "H" if "guide" in name else "P"
        roles = {"L": "L", "P": "P", "H": "H", name: name} | split([name], (term,))
        del roles[term]
        yield Candidate("part", "kl", "", roles, noise, cost=3.0, pieces=True)
    if latent:
        roles = {"L": "L"} | {n: n for n in latent} | split(latent, ("P", "H"))
        yield Candidate("part", "kl", "", roles, noise, cost=4.0, pieces=True)
    for extra in ("sum(loc)", "sum(|loc|)", "sum(scale)"):
        if latent and extra in columns:
            roles = {"L": "L"} | {n: n for n in latent} | split(latent, ("P", "H"))
            roles |= {"extra": extra}
            yield Candidate("part", "kl", "", roles, noise, free=("extra",), cost=6.0, pieces=True)
    if len(sites) > 2:
        roles = {"L": "L"} | {n: n for n in sites}
        yield Candidate("part", "kl", "", roles, noise, cost=4.0, pieces=True)
    if likelihood and latent:
        names = [*likelihood, *latent]
        roles = {n: n for n in names} | split(names, ("L", "P", "H"))
        yield Candidate("part", "objective", "", roles, noise, cost=10.0, pieces=True)


def _is_site(name: str, columns: set[str]) -> bool:
    known = ("P:loc^2", "P:scale^2", "P:log", "P:z^2", "H:log")
    return name not in known and name in columns


def _wrong_divergences(
    table: Regression, columns: set[str], noise: list[str]
) -> Iterator[Candidate]:
    told = {
        "reversed KL": "the KL is KL(p || q): its arguments are swapped.",
        "|KL|": "the KL enters by its absolute value.",
        "KL^2": "the KL enters squared.",
    }
    for name, said in told.items():
        if name in columns:
            key = table.add(f"-{name}", {name: 1.0 if name == "reversed KL" else -1.0})
            yield Candidate("formula", "kl", said, {"L": "L", "KL": key}, noise, cost=6.0)
    for name in sorted(columns):
        for start, said in (
            ("free bits ", "each latent dimension's KL is kept above"),
            ("batch free bits ", "each latent dimension's mean KL over the batch is kept above"),
            ("floor ", "each example's KL is kept above"),
        ):
            if name.startswith(start):
                text = f"{said} {name[len(start) :]} nats (free bits): a looser bound."
                roles = {"L": "L", "KL": name}
                yield Candidate("formula", "kl", text, roles, noise, cost=7.0)
    if "|sum(log scale)|" in columns:
        key = table.add("H by abs", {"H": 1.0, "sum(log scale)": -1.0, "|sum(log scale)|": 1.0})
        said = "entropy has the wrong sign where sum(log_scale) < 0: an absolute value?"
        yield Candidate(
            "formula", "entropy", said, {"L": "L", "P": "P", "H": key}, noise, cost=5.0
        )
        key = table.add("H by -abs", {"H": 1.0, "sum(log scale)": -1.0, "|sum(log scale)|": -1.0})
        said = "entropy has the wrong sign where sum(log_scale) > 0: an absolute value?"
        yield Candidate(
            "formula", "entropy", said, {"L": "L", "P": "P", "H": key}, noise, cost=5.0
        )
    for name in sorted(n for n in columns if n.startswith("KL=")):
        roles = {"L": "L", "KL": name}
        yield Candidate("formula", "kl", f"{name[3:]}.", roles, noise, cost=6.0)
    for name in sorted(n for n in columns if n.startswith("KLs=")):
        roles = {"L": "L", "KL": name}
        yield Candidate("formula", "kl", f"{name[4:]}.", roles, [], cost=6.0)
    for name in sorted(n for n in columns if n.startswith("standard ")):
        said = f"the prior of {name[9:]} is taken as the standard Normal."
        roles = {"L": "L", "P": name, "H": "H"}
        yield Candidate("formula", "log_prior", said, roles, noise, cost=6.0)
    if "closed where invalid" in columns:
        said = (
            "a KL is taken in closed form though its parents in the model were drawn from that "
            "very latent: sample it."
        )
        roles = {"L": "L", "KL": "closed where invalid"}
        yield Candidate("formula", "kl", said, roles, noise, cost=4.0)


def _bounds(columns: set[str]) -> Iterator[Candidate]:
    for name in sorted(n for n in columns if n.startswith("IWAE")):
        count = name.split()[-1]
        over = "the whole batch" if "batch" in name else "each example"
        said = (
            f"this is the importance-weighted bound with {count} particles over {over}: "
            "another bound than the ELBO."
        )
        yield Candidate("bound", "objective", said, {"all": name}, [], cost=4.0)
    for name in sorted(n for n in columns if n.startswith("Renyi")):
        _, alpha, count = name.split()
        said = f"this is the Rényi bound with alpha = {alpha} and {count} particles, not the ELBO."
        yield Candidate("bound", "objective", said, {"all": name}, [], cost=6.0)
    for name in sorted(n for n in columns if n.startswith("bound=")):
        said = f"this is a bound of several particles: {name[6:]}."
        yield Candidate("bound", "objective", said, {"all": name}, [], cost=6.0)


def _extras(
    table: Regression, columns: set[str], right: dict[str, str], noise: list[str]
) -> Iterator[Candidate]:
    names = ["L^2", "KL^2", "sum(log scale)^2", "|sum(log scale)|", "sum(loc)", "sum(scale)"]
    names += ["sum(|z|)"]
    names += ["batch size", "1/batch size"]
    names += sorted(n for n in columns if n.startswith(("squares of", "absolute values of")))
    for name in names:
        if name in columns and np.ptp(table.means(name)) > 1e-9:
            said = f"a term is added that is proportional to {_extra(name)}."
            roles = right | {"extra": name}
            yield Candidate("extra", "objective", said, roles, noise, free=("extra",), cost=8.0)


def _extra(name: str) -> str:
    told = {"P:loc^2": "sum(loc^2)", "P:scale^2": "sum(scale^2)", "H:log": "sum(log scale)"}
    told |= {"L^2": "the log-likelihood squared", "KL^2": "the KL squared"}
    told |= {"batch size": "the batch size", "1/batch size": "1 / batch size"}
    if name.startswith(("squares", "absolute")):
        return f"the sum of the {name} (weight decay inside of the objective?)"
    return told.get(name, name)


def _name(term: str) -> str:
    return {"kl": "KL", "log_likelihood": "log-likelihood", "log_prior": "log-prior"}.get(
        term, term
    )
