"""The one-dimensional families: at which parameters, and what scipy calls them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
import torch.distributions as td
from scipy import stats
from torch.distributions import Distribution

from registered_kls_parts import referee

NEXT_TO_HALF = (0.498, 0.4985, 0.499, 0.4999, 0.5, 0.5001, 0.501, 0.5015, 0.502)


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        cls: torch's class.
        usual: its parameters where programs commonly are, one row each.
        edges: its parameters at the ends of what is allowed, and next to them.
        truth: from the distributions, (n, 1), to what scipy makes of their parameters.
        names: of the parameters.
        discrete: whether its values are whole numbers.
    """

    cls: type[Distribution]
    usual: list[tuple[float, ...]]
    edges: list[tuple[float, ...]]
    truth: Callable[[Any], Any]
    names: tuple[str, ...]
    discrete: bool = False

    def at(self, rows: list[tuple[float, ...]], dtype: torch.dtype) -> Distribution:
        """Return the family at some rows of parameters, batch shape (n,)."""
        columns = torch.tensor(rows, dtype=dtype).T
        made: Any = self.cls
        return made(**dict(zip(self.names, columns, strict=True)), validate_args=False)


def _a(parameter: torch.Tensor) -> np.ndarray:
    return parameter.double().numpy()[:, None]


def _bernoulli(d: Any) -> referee.Bernoulli:  # noqa: ANN401
    if "probs" in vars(d):
        probs = _a(d.probs)
        with np.errstate(divide="ignore"):
            return referee.Bernoulli(np.log1p(-probs), np.log(probs))
    logits = _a(d.logits)
    return referee.Bernoulli(-np.logaddexp(0, logits), -np.logaddexp(0, -logits))


def _continuous_bernoulli(d: Any) -> referee.ContinuousBernoulli:  # noqa: ANN401
    if "probs" in vars(d):
        probs = _a(d.probs)
        return referee.ContinuousBernoulli(np.log(probs) - np.log1p(-probs))
    return referee.ContinuousBernoulli(_a(d.logits))


def _laplace(d: Any) -> referee.WithLogDensity:  # noqa: ANN401
    loc, scale = _a(d.loc), _a(d.scale)
    return referee.WithLogDensity(
        stats.laplace(loc, scale), lambda x: -np.abs(x - loc) / scale - np.log(2 * scale)
    )


def _pareto(d: Any) -> referee.WithLogDensity:  # noqa: ANN401
    alpha, scale = _a(d.alpha), _a(d.scale)
    return referee.WithLogDensity(
        stats.pareto(alpha, 0, scale),
        lambda x: np.log(alpha / scale) - (alpha + 1) * (np.log(x) - np.log(scale)),
    )


def _box(*sides: tuple[float, ...]) -> list[tuple[float, ...]]:
    return list(product(*sides))


_PROBS = [(p,) for p in (0.01, 0.1, 0.3, 0.47, *NEXT_TO_HALF, 0.6, 0.9, 0.99)]
_EDGE_PROBS = [(p,) for p in (0.0, 1e-6, 1 - 1e-6, 1.0)]
_EDGE_LOGITS = [(x,) for x in (-200.0, -50.0, -20.0, 20.0, 50.0, 200.0)]
_LOGITS = [(x,) for x in (-8.0, -2.0, -0.01, -0.005, -0.001, 0.0, 0.001, 0.005, 0.1, 2.0, 8.0)]
_SIZES = (0.1, 0.5, 1.0, 3.0, 10.0)
_LOCS = (-10.0, -1.0, 0.0, 0.5, 10.0)
_EDGE_SIZES = (1e-4, 1e-2, 1e2, 1e4)
_EDGE_PLACES = _box((0.0, 1e3), _EDGE_SIZES)
_RATES = [(r,) for r in _SIZES]
_EDGE_RATES = [(r,) for r in (*_EDGE_SIZES, 1e-20, 1e20)]

FAMILIES: dict[str, Family] = {
    "Bernoulli": Family(
        td.Bernoulli, _PROBS, _EDGE_PROBS, _bernoulli, ("probs",), discrete=True
    ),
    "Bernoulli, logits": Family(
        td.Bernoulli, _LOGITS, _EDGE_LOGITS, _bernoulli, ("logits",), discrete=True
    ),
    "Beta": Family(
        td.Beta,
        _box((0.5, 1.0, 2.0, 10.0, 100.0), (0.5, 1.0, 3.0, 30.0)),
        _box((0.5, 1e4, 1e5), (1.0, 1e4, 1e5)),
        lambda d: stats.beta(_a(d.concentration1), _a(d.concentration0)),
        ("concentration1", "concentration0"),
    ),
    "Binomial": Family(
        td.Binomial,
        _box((1.0, 5.0), (0.01, 0.3, 0.5, 0.9)) + [(20.0, 0.3)],
        _box((5.0,), (0.0, 1e-6, 1 - 1e-6, 1.0)),
        lambda d: stats.binom(_a(d.total_count), _a(d.probs)),
        ("total_count", "probs"),
        discrete=True,
    ),
    "Cauchy": Family(
        td.Cauchy, _box(_LOCS, _SIZES), _EDGE_PLACES + [(0.0, 1e20)],
        lambda d: stats.cauchy(_a(d.loc), _a(d.scale)), ("loc", "scale"),
    ),
    "ContinuousBernoulli": Family(
        td.ContinuousBernoulli, _PROBS, _EDGE_PROBS, _continuous_bernoulli, ("probs",)
    ),
    "ContinuousBernoulli, logits": Family(
        td.ContinuousBernoulli, _LOGITS, _EDGE_LOGITS, _continuous_bernoulli, ("logits",)
    ),
    "Exponential": Family(
        td.Exponential, _RATES, _EDGE_RATES, lambda d: stats.expon(0, 1 / _a(d.rate)), ("rate",)
    ),
    "Gamma": Family(
        td.Gamma,
        _box((0.5, 1.0, 2.0, 10.0, 100.0), (0.1, 1.0, 10.0)),
        _box((0.1, 1.0, 1e4, 1e5), (1e-4, 1.0, 1e4)),
        lambda d: stats.gamma(_a(d.concentration), 0, 1 / _a(d.rate)),
        ("concentration", "rate"),
    ),
    "Geometric": Family(
        td.Geometric, _PROBS, [(p,) for p in (1e-3, 1 - 1e-6, 1.0)],
        lambda d: stats.geom(_a(d.probs), -1), ("probs",), discrete=True,
    ),
    "Gumbel": Family(
        td.Gumbel, _box(_LOCS, _SIZES), _EDGE_PLACES,
        lambda d: stats.gumbel_r(_a(d.loc), _a(d.scale)), ("loc", "scale"),
    ),
    "HalfNormal": Family(
        td.HalfNormal, _RATES, _EDGE_RATES, lambda d: stats.halfnorm(0, _a(d.scale)), ("scale",)
    ),
    "Laplace": Family(
        td.Laplace, _box(_LOCS, _SIZES), _EDGE_PLACES,
        _laplace, ("loc", "scale"),
    ),
    "Normal": Family(
        td.Normal, _box(_LOCS, _SIZES), _EDGE_PLACES + [(0.0, 1e20)],
        lambda d: stats.norm(_a(d.loc), _a(d.scale)), ("loc", "scale"),
    ),
    "Pareto": Family(
        td.Pareto, _box((0.1, 1.0, 2.0), (0.5, 1.0, 1.5, 2.0, 2.5, 5.0)),
        _box((1e-4, 1e4), (0.5, 3.0, 50.0)),
        _pareto, ("scale", "alpha"),
    ),
    "Poisson": Family(
        td.Poisson, _RATES + [(100.0,)], [(r,) for r in (0.0, 1e-4, 1e4)],
        lambda d: stats.poisson(_a(d.rate)), ("rate",), discrete=True,
    ),
    "Uniform": Family(
        td.Uniform,
        [(0.0, 1.0), (0.0, 0.5), (0.2, 0.7), (0.5, 1.0), (0.1, 3.0), (-1.0, 2.0), (1.0, 3.0),
         (-3.0, -1.0), (-0.5, 0.5), (0.5, 1.5), (-10.0, 10.0)],
        [(0.0, 1e-4), (0.0, 1e4), (1e3, 1e3 + 1.0), (-1e4, 1e4), (0.4999, 0.5001)],
        lambda d: stats.uniform(_a(d.low), _a(d.high) - _a(d.low)), ("low", "high"),
    ),
}  # fmt: skip
