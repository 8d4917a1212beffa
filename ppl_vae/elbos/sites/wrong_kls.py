"""Registered KL divergences that silently return a wrong number; tests measure them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions import FoldedDistribution
from torch.distributions import (
    Beta,
    ContinuousBernoulli,
    Distribution,
    Exponential,
    Normal,
    TransformedDistribution,
    Uniform,
    Wishart,
)
from torch.distributions.kl import _dispatch_kl

HALF = "the probabilities of a ContinuousBernoulli are near 0.5 (float32) or its logits large"
LARGE = "the logits of a ContinuousBernoulli are large"
FOLD = "the base of a FoldedDistribution is not symmetric about 0"
F32, F64 = torch.float32, torch.float64


@dataclass(frozen=True)
class WrongKL:
    """One pair of families whose registered KL(q || p) is wrong, with one place where.

    Attributes:
        q: the class of q; its subclasses count.
        p: the class of p; likewise.
        where: in words.
        q_at: the parameters of q at that place.
        p_at: those of p.
        dtype: of both.
        registered: what the formula returns there, in nats.
        right: what it should.
        referee: how that was found.
    """

    q: type[Distribution]
    p: type[Distribution]
    where: str
    q_at: dict[str, Any]
    p_at: dict[str, Any]
    dtype: torch.dtype
    registered: float
    right: float
    referee: str


_FOLDED = {"base_dist": Normal(1.0, 1.0)}

WRONG_KLS = (
    WrongKL(ContinuousBernoulli, ContinuousBernoulli, HALF,
            {"probs": 0.499}, {"probs": 0.3}, F32, 0.02661, 0.02945, "quadrature"),
    WrongKL(ContinuousBernoulli, Normal, HALF,
            {"probs": 0.499}, {"loc": -1.0, "scale": 0.1}, F32, 30.09, 115.23, "quadrature"),
    WrongKL(ContinuousBernoulli, Exponential, LARGE,
            {"logits": 20.0}, {"rate": 1.0}, F32, 2.7063, 2.9457, "quadrature"),
    WrongKL(ContinuousBernoulli, Uniform, "the Uniform begins at 0 or ends at 1",
            {"probs": 0.3}, {"low": 0.0, "high": 1.0}, F64, float("inf"), 0.029386, "quadrature"),
    WrongKL(Uniform, ContinuousBernoulli, "the Uniform begins at 0 or ends at 1",
            {"low": 0.0, "high": 1.0}, {"probs": 0.01}, F64, float("inf"), 0.76241, "quadrature"),
    WrongKL(Beta, ContinuousBernoulli, LARGE,
            {"concentration1": 1.0, "concentration0": 1.0}, {"logits": 20.0},
            F32, 3.1734, 7.0043, "quadrature"),
    WrongKL(Wishart, Wishart, "the degrees of freedom have a batch dimension",
            {"df": [4.0, 5.0], "covariance_matrix": [[1.0, 0.3], [0.3, 2.0]]},
            {"df": [6.0, 5.0], "covariance_matrix": [[2.0, -0.3], [-0.3, 1.0]]},
            F64, -0.7126, 1.776, "sampling, of the second entry"),
    WrongKL(FoldedDistribution, TransformedDistribution, FOLD,
            _FOLDED, {"base_dist": Normal(-1.0, 1.0)}, F64, 2.0, 0.0, "the two are one"),
    WrongKL(TransformedDistribution, FoldedDistribution, FOLD,
            {"base_dist": Normal(-1.0, 1.0)}, _FOLDED, F64, 2.0, 0.0, "the two are one"),
)  # fmt: skip


def wrong_where(q: Distribution, p: Distribution) -> str:
    """Return where the registered KL of two distributions is wrong, or nothing.

    A formula registered in place of torch's or Pyro's is not judged.
    """
    for known in WRONG_KLS:
        if isinstance(q, known.q) and isinstance(p, known.p):
            formula: Any = _dispatch_kl(type(q), type(p))
            if not formula.__module__.startswith(("torch.", "pyro.")):
                return ""
            return (
                f"the registered formula for KL({known.q.__name__} || {known.p.__name__}) "
                f"is wrong where {known.where}: "
                f"{known.registered:g} nats instead of {known.right:g} at one place"
            )
    return ""
