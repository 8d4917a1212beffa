"""Families of log-likelihoods: the parts of the right one, and wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ppl_vae.diagnostics.check.formulas.likelihoods.classes import other_classes, wrong_categorical
from ppl_vae.diagnostics.check.formulas.likelihoods.counts import (
    factorial,
    negative_binomial_parts,
    poisson_parts,
    wrong_excess_zeros,
    wrong_negative_binomial,
    wrong_poisson,
)
from ppl_vae.diagnostics.check.formulas.likelihoods.parameters import wrong_parameters
from ppl_vae.diagnostics.check.formulas.likelihoods.pixels import (
    bernoulli_parts,
    normal_parts,
    wrong_bernoulli,
    wrong_normal,
)

Formulas = Callable[[Any, Tensor], dict[str, Tensor]]
# In the order in which they are tried.
PARTS: dict[str, Formulas] = {
    "Bernoulli": bernoulli_parts,
    "Normal": normal_parts,
    "Poisson": poisson_parts,
    "NegativeBinomial": negative_binomial_parts,
    "GammaPoisson": negative_binomial_parts,
    "ZeroInflatedNegativeBinomial": factorial,
    "ZeroInflatedPoisson": factorial,
}
WRONG: dict[str, tuple[Formulas, ...]] = {
    "Bernoulli": (wrong_bernoulli,),
    "Normal": (wrong_normal,),
    "Poisson": (wrong_poisson, wrong_parameters),
    "NegativeBinomial": (wrong_negative_binomial, wrong_parameters),
    "GammaPoisson": (wrong_negative_binomial, wrong_parameters),
    "ZeroInflatedNegativeBinomial": (wrong_excess_zeros, wrong_parameters),
    "ZeroInflatedPoisson": (wrong_excess_zeros, wrong_parameters),
    "Categorical": (wrong_categorical, other_classes),
}
OTHERS: tuple[Formulas, ...] = (wrong_parameters,)


def parts(fn: Any, x: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return the parts of a family's log-density; none where they are not known."""
    known = PARTS.get(type(fn).__name__)
    return known(fn, x) if known else {}


def wrong_formulas(fn: Any, x: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return what is met in place of a family's log-density; the first of a name counts."""
    found: dict[str, Tensor] = {}
    for formulas in WRONG.get(type(fn).__name__, OTHERS):
        found = formulas(fn, x) | found
    return found
