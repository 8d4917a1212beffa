"""Every registered pair of one-dimensional families, at all pairs of their parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import kl_divergence
from torch.distributions.kl import _KL_REGISTRY

from registered_kls_parts.families import FAMILIES, Family
from registered_kls_parts.referee import by_quadrature, by_summation, cauchy_kl

# An error beyond `relative * |truth| + absolute` is no rounding.
TOLERANCES = {torch.float64: (1e-2, 1e-4), torch.float32: (5e-2, 1e-3)}


# In nats: beyond it an exponential of Gumbel's has overflown on the way, the referee's or torch's.
LARGEST = 1e20


@dataclass(frozen=True)
class Measured:
    """One KL at one pair of parameters.

    Attributes:
        q: the family, and its parameters, in words.
        p: likewise.
        dtype: of the parameters.
        usual: whether the parameters of both are where programs commonly are.
        value: what torch returns; None where it raises.
        truth: what it should.
        referee: how that was found.
    """

    q: str
    p: str
    dtype: torch.dtype
    usual: bool
    value: float | None
    truth: float
    referee: str

    @property
    def error(self) -> float:
        """How far from the truth: infinite for NaN, or where one of the two is infinite."""
        if self.value is None or np.isnan(self.value):
            return np.inf
        return 0.0 if self.value == self.truth else abs(self.value - self.truth)

    @property
    def is_wrong(self) -> bool:
        """Whether it is off by more than rounding."""
        relative, absolute = TOLERANCES[self.dtype]
        truth = abs(self.truth)
        return not self.error <= absolute + (relative * truth if np.isfinite(truth) else 0.0)

    @property
    def defect(self) -> str:
        """What is wrong, in a word."""
        if self.value is None:
            return "raises"
        if np.isnan(self.value):
            return "nan"
        return "inf" if np.isinf(self.value) else "number"


def pairs() -> list[tuple[str, str]]:
    """Return the names of all pairs of families that have a formula of their own."""
    return [
        (q, p)
        for q, first in FAMILIES.items()
        for p, second in FAMILIES.items()
        if (first.cls, second.cls) in _KL_REGISTRY
    ]


def measure(q: str, p: str, dtype: torch.dtype, *, edges: bool = True) -> Iterator[Measured]:
    """Compare torch's KL with the referee's at every pair of parameters."""
    (first, rows_q), (second, rows_p) = (_rows(FAMILIES[n], edges=edges) for n in (q, p))
    at_q, at_p = first.at(rows_q, dtype), second.at(rows_p, dtype)
    truth, referee = _truth(first, second, at_q, at_p)
    limit = torch.finfo(dtype).max
    values = _every(at_q, at_p)
    for i, row_q in enumerate(rows_q):
        for j, row_p in enumerate(rows_p):
            right = float(truth[i, j])
            if p == "Gumbel" and right > LARGEST:
                continue
            yield Measured(
                _words(first, row_q),
                _words(second, row_p),
                dtype,
                i < len(first.usual) and j < len(second.usual),
                values[i][j],
                np.inf if right > limit else right,
                referee,
            )


def _rows(family: Family, *, edges: bool) -> tuple[Family, list[tuple[float, ...]]]:
    return family, family.usual + (family.edges if edges else [])


def _words(family: Family, row: tuple[float, ...]) -> str:
    numbers = ", ".join(f"{n}={v:.9g}" for n, v in zip(family.names, row, strict=True))
    return f"{family.cls.__name__}({numbers})"


def _truth(first: Family, second: Family, q: Any, p: Any) -> tuple[np.ndarray, str]:  # noqa: ANN401
    if first.cls.__name__ == second.cls.__name__ == "Cauchy":
        return cauchy_kl(q, p), "closed form"
    if first.discrete:
        return by_summation(first.truth(q), second.truth(p)), "summation"
    truth = by_quadrature(first.truth(q), second.truth(p))
    tails = {"Exponential": 1, "Gamma": 1, "Normal": 2}
    if first.cls.__name__ == "Pareto" and second.cls.__name__ in tails:
        # Moments that do not exist.
        truth[(q.alpha <= tails[second.cls.__name__]).numpy()] = np.inf
    return truth, "quadrature"


def _every(q: Any, p: Any) -> list[list[float | None]]:  # noqa: ANN401
    shape = (*q.batch_shape, *p.batch_shape)
    try:
        return kl_divergence(_spread(q, 1, shape), _spread(p, 0, shape)).tolist()
    except Exception:
        return [[_one(q, i, p, j) for j in range(shape[1])] for i in range(shape[0])]


def _spread(d: Any, dim: int, shape: tuple[int, ...]) -> Any:  # noqa: ANN401
    members = {n: _own(d, n).unsqueeze(dim).expand(shape).clone() for n in _names(d)}
    return type(d)(**members, validate_args=False)


def _names(d: Any) -> tuple[str, ...]:  # noqa: ANN401
    if "probs" in d.arg_constraints and "logits" in d.arg_constraints:
        chosen = "probs" if "probs" in vars(d) else "logits"
        return (*("total_count",) * ("total_count" in vars(d)), chosen)
    return tuple(d.arg_constraints)


def _own(d: Any, name: str) -> Tensor:  # noqa: ANN401
    return getattr(d, name)


def _one(q: Any, i: int, p: Any, j: int) -> float | None:  # noqa: ANN401
    def at(d: Any, k: int) -> Any:  # noqa: ANN401
        return type(d)(**{n: _own(d, n)[k : k + 1] for n in _names(d)}, validate_args=False)

    try:
        return kl_divergence(at(q, i), at(p, j)).item()
    except Exception:
        return None
