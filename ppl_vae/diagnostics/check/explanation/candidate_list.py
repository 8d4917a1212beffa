"""Formulas that an objective may follow, besides the right one; each is fitted by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ppl_vae.diagnostics.check.explanation.candidate import RIGHT, Candidate
from ppl_vae.diagnostics.check.explanation.wrong_terms import wrong_terms
from ppl_vae.diagnostics.check.formulas import DRAWN, SCALES
from ppl_vae.diagnostics.check.statistics import Regression

NORMAL_PIECES = ("P:loc^2", "P:scale^2", "P:log", "H:log")
# What is multiplied or divided by the batch's size: its columns, and its name.
BY_BATCH = {
    "objective": ("LPH", "whole objective"),
    "log_likelihood": ("L", "log-likelihood"),
    "kl": ("PH", "KL"),
    "log_prior": ("P", "log-prior"),
    "entropy": ("H", "entropy"),
}
# What the targets are mixed with where this column is added to a log-likelihood of less weight.
MIXED = {
    "L=colours inverted": "their opposites: label smoothing, or flipped pixels?",
    "L=the targets are all classes alike": "all classes alike: label smoothing?",
}
# Quantities that may be added to an objective.
ADDED = {
    "L^2": "the log-likelihood squared",
    "KL^2": "the KL squared",
    "sum(log scale)^2": "sum(log scale)^2",
    "|sum(log scale)|": "|sum(log scale)|",
    "sum(loc)": "sum(loc)",
    "sum(scale)": "sum(scale)",
    "sum(|z|)": "sum(|z|)",
    "batch size": "the batch size",
    "1/batch size": "1 / batch size",
}


def candidates(table: Regression) -> Iterator[Candidate]:
    """Yield the formulas that the table's columns allow, the simplest first."""
    columns = set(table.samples[0].columns)
    noise = table.noise
    yield Candidate("weight", "objective", "", RIGHT, noise)
    tied = {"L": "L", "KL": table.add("KL", {"P": 1.0, "H": 1.0})}
    yield Candidate("weight", "objective", "", tied, noise)
    yield from _by_batch(table, noise)
    yield from _pieces(table, columns, noise)
    yield from _wrong_draws(columns, noise)
    yield from _wrong_likelihoods(columns, noise)
    yield from wrong_terms(table, columns, noise)
    yield from _added(table, columns, noise)


def _by_batch(table: Regression, noise: list[str]) -> Iterator[Candidate]:
    """Yield formulas in which some terms are multiplied or divided by the batch's size."""
    if np.ptp(table.batch_size) == 0:
        return
    for power, word, verb in ((1.0, "multiplied", "summed"), (-1.0, "divided", "averaged")):
        for term, (roles, name) in BY_BATCH.items():
            if not any(table.means(role).any() for role in roles):
                continue  # there is no such term
            changed = RIGHT | {role: _scaled(table, role, power) for role in roles}
            scaled = [_scaled(table, n, power) if n[1] in roles else n for n in noise]
            hint = "where the rest is not"
            if term == "objective":
                hint = "not per example: off by the batch size"
            message = f"the {name} is {word} by the batch size: {verb} over the batch, {hint}."
            yield Candidate("reduction", term, message, changed, scaled, cost=3.0)


def _scaled(table: Regression, name: str, power: float) -> str:
    return table.add(f"{name}*B^{power:g}", {name: 1.0}, table.batch_size**power)


def _pieces(table: Regression, columns: set[str], noise: list[str]) -> Iterator[Candidate]:
    """Yield the right formula with a weight for every piece of its terms."""

    def varies(name: str) -> bool:
        return bool(np.ptp(table.means(name)) > 1e-6 * table.scale.mean())

    def split(terms: str, names: list[str], cost: float) -> Candidate:
        """Return the formula with some terms split into these pieces and the rest of them."""
        pieces = dict(zip(names, names, strict=True))
        others = {role: role for role in RIGHT if role not in terms}
        rest = dict.fromkeys(terms, 1.0) | dict.fromkeys(names, -1.0)
        roles = pieces | others if "L" in terms else others | pieces
        roles |= {"rest": table.add("rest " + " ".join(names), rest)}
        term = {"L": "log_likelihood", "LPH": "objective"}.get(terms, "kl")
        return Candidate("part", term, "", roles, noise, cost=cost, pieces=True)

    sampled = {name[1:3] for name in noise}
    likelihood = sorted(n for n in columns if n.startswith("L:") and varies(n))
    latent = [n for n in NORMAL_PIECES if n in columns and n[:2] in sampled and varies(n)]
    if likelihood:
        yield split("L", likelihood, 4.0)
    for name in sorted(n for n in columns if n.startswith("J:")):
        yield split("H" if "guide" in name else "P", [name], 3.0)
    if latent:
        candidate = split("PH", latent, 4.0)
        yield candidate
        for extra in ("sum(loc)", "sum(|loc|)", "sum(scale)"):
            if extra in columns:
                roles = candidate.roles | {"extra": extra}
                yield replace(candidate, roles=roles, free=("extra",), cost=6.0)
    sites = sorted(
        n
        for n in columns
        if n.startswith(("P:", "H:")) and (f"~{n}" in columns or n not in NORMAL_PIECES)
    )
    if len(sites) > 2:
        roles = {"L": "L"} | dict(zip(sites, sites, strict=True))
        yield Candidate("part", "kl", "", roles, noise, cost=4.0, pieces=True)
    if likelihood and latent:
        yield split("LPH", [*likelihood, *latent], 10.0)


def _wrong_draws(columns: set[str], noise: list[str]) -> Iterator[Candidate]:
    """Yield formulas whose draws of z, or whose scales, are others than the guide's."""
    for name, (_, words) in SCALES.items():
        if f"P@{name}" not in columns:
            continue
        likelihood, prior, entropy = ({role: f"{role}@{name}"} for role in RIGHT)
        sampled = {"P": f"Ps@{name}", "H": f"Hs@{name}"}
        places = [("kl", "the KL takes", prior | entropy)]
        if name not in ("unit", "inverse"):  # else a missing term, or one with another sign
            places += [
                ("entropy", "the entropy takes", entropy),
                ("log_prior", "the log-prior's scale^2 takes", prior),
            ]
        # Without the scale a draw is loc + noise, which has words of its own below.
        if f"L@{name}" in columns and name != "unit":
            places += [
                ("objective", "draws and KL take", likelihood | prior | entropy),
                ("log_likelihood", "the draw of z takes", likelihood),
                ("log_likelihood", "the draw of z takes", likelihood | sampled),
                ("log_likelihood", "draw and log-prior take", likelihood | prior),
            ]
        extra = [*noise, *({f"~P@{name}"} & columns)]
        for term, verb, roles in places:
            message = f"{verb} {words} where the guide has its scale."
            yield Candidate("formula", term, message, RIGHT | roles, extra, cost=6.0)
    for name, message in DRAWN.items():
        if f"L@{name}" not in columns:
            continue
        likelihood = {"L": f"L@{name}"}
        prior, entropy = {"P": f"Ps@{name}"}, {"H": f"Hs@{name}"}
        kind = "noise"
        places = [
            ("log_likelihood", likelihood),
            ("log_likelihood", likelihood | prior | entropy),
            ("log_likelihood", likelihood | prior),
            ("kl", prior | entropy),
        ]
        if name == "order":  # all terms take it, the KL in closed form or sampled
            kind = "formula"
            places = [
                ("objective", likelihood | {"P": "P@order", "H": "H@order"}),
                ("objective", likelihood | prior | entropy),
            ]
        for term, roles in places:
            yield Candidate(kind, term, message, RIGHT | roles, noise, cost=6.0)


def _wrong_likelihoods(columns: set[str], noise: list[str]) -> Iterator[Candidate]:
    """Yield formulas with another reconstruction term."""
    for name, others in MIXED.items():
        if name in columns:
            message = f"the targets are mixed with {others}"
            roles, free = RIGHT | {"extra": name}, ("L", "extra")
            yield Candidate("formula", "log_likelihood", message, roles, noise, free, cost=8.0)
    for name in sorted(n for n in columns if n.startswith("L=")):
        message = f"the reconstruction term is not the pair's log-likelihood: {name[2:]}."
        roles, free = RIGHT | {"L": name}, ("L",) if "error" in name else ()
        yield Candidate("formula", "log_likelihood", message, roles, noise, free, cost=6.0)


def _added(table: Regression, columns: set[str], noise: list[str]) -> Iterator[Candidate]:
    """Yield the right formula with another quantity added."""
    words = dict(ADDED)
    for name in sorted(n for n in columns if n.startswith(("squares of", "absolute values of"))):
        words[name] = f"the sum of the {name} (weight decay inside of the objective?)"
    for name, quantity in words.items():
        if name in columns and np.ptp(table.means(name)) > 1e-9:
            message = f"a term is added that is proportional to {quantity}."
            roles = RIGHT | {"extra": name}
            yield Candidate("extra", "objective", message, roles, noise, ("extra",), cost=8.0)
