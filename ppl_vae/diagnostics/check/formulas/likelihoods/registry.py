"""Families of log-likelihoods: the parts of the right one, and wrong ones."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ppl_vae.likelihoods import LIKELIHOODS
from ppl_vae.likelihoods.entry import Formulas
from ppl_vae.likelihoods.formulas.counts import (
    factorial,
    negative_binomial_parts,
    wrong_excess_zeros,
    wrong_negative_binomial,
)
from ppl_vae.likelihoods.formulas.parameters import wrong_parameters

# Met in programs, but without an entry of their own.
MORE_PARTS: dict[str, Formulas] = {
    "GammaPoisson": negative_binomial_parts,
    "ZeroInflatedPoisson": factorial,
}
MORE_WRONG: dict[str, tuple[Formulas, ...]] = {
    "GammaPoisson": (wrong_negative_binomial, wrong_parameters),
    "ZeroInflatedPoisson": (wrong_excess_zeros, wrong_parameters),
}
OTHERS: tuple[Formulas, ...] = (wrong_parameters,)


def parts(fn: Any, x: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return the parts of a family's log-density; none where they are not known."""
    known = MORE_PARTS | {entry.family: entry.parts for entry in LIKELIHOODS.values()}
    name = type(fn).__name__
    return known[name](fn, x) if name in known else {}


def wrong_formulas(fn: Any, x: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return what is met in place of a family's log-density; the first of a name counts."""
    known = MORE_WRONG | {entry.family: entry.wrong for entry in LIKELIHOODS.values()}
    found: dict[str, Tensor] = {}
    for formulas in known.get(type(fn).__name__, OTHERS):
        found = formulas(fn, x) | found
    return found
