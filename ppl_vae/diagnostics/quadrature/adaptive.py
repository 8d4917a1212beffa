"""Adaptive integration of many functions at once, by ``scipy.integrate.cubature``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.integrate import cubature
from torch import Tensor

# Evaluations at which to give up unless told otherwise, for each dimension.
MOST_EVALUATIONS = {1: 50_000, 2: 1_000_000}
# Points of scipy's Gauss-Kronrod rule, and those of its lower rule, for each dimension.
_POINTS_PER_REGION = {1: 21 + 10, 2: 21**2 + 10**2}


@dataclass(frozen=True)
class Integrals:
    """Integrals over the cube, each with a bound of its error.

    Attributes:
        value: (count,), float64.
        error: the sum over all subregions of the distance between two rules, (count,).
        num_evaluations: points at which the integrand was taken.
        converged: whether every error came below what was asked for.
    """

    value: Tensor
    error: Tensor
    num_evaluations: int
    converged: bool


def integrate(
    integrand: Callable[[Tensor], Tensor],
    *,
    dim: int,
    tolerance: float,
    max_evaluations: int,
    device: torch.device,
) -> Integrals:
    """Integrate over (-1, 1)^dim by a Gauss-Kronrod rule of 21 points per dimension.

    The subregion with the largest error is halved in each dimension until every error is below
    ``tolerance (1 + |value|)``, so the integrands should be of order 1.

    Args:
        integrand: points, (num_points, dim), to values, (num_points, count); both float64.
        dim: 1 or 2.
        tolerance: as above.
        max_evaluations: where to stop; overrun by less than one more subdivision.
        device: of the points.
    """
    on_arrays = _OnArrays(integrand, device)
    cost = 2**dim * _POINTS_PER_REGION[dim]
    with torch.no_grad():
        result = cubature(
            on_arrays,
            [-1.0] * dim,
            [1.0] * dim,
            rule="gk21",
            rtol=tolerance,
            atol=tolerance,  # pyright: ignore[reportArgumentType]
            max_subdivisions=max(1, max_evaluations // cost),
        )
    return Integrals(
        torch.as_tensor(result.estimate, device=device),
        torch.as_tensor(result.error, device=device).abs(),
        on_arrays.num_evaluations,
        result.status == "converged",
    )


class _OnArrays:
    """Arrays in and out; what scipy asks for twice in a row is computed once."""

    def __init__(self, integrand: Callable[[Tensor], Tensor], device: torch.device) -> None:
        self._integrand, self._device = integrand, device
        self._points, self._values = np.empty((0, 0)), np.empty((0, 0))
        self.num_evaluations = 0

    def __call__(self, points: np.ndarray) -> np.ndarray:
        known = len(self._points)
        if not (known and np.array_equal(points[:known], self._points)):
            known = 0
        new = torch.as_tensor(points[known:], device=self._device)
        values = self._integrand(new).cpu().numpy()
        self.num_evaluations += len(new)
        if known:
            return np.concatenate([self._values, values])
        self._points, self._values = points, values
        return values
