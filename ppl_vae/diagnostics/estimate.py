"""A mean with its standard error, as every Monte Carlo result is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T", float, Tensor)


@dataclass(frozen=True)
class Estimate(Generic[T]):
    """A mean with its standard error.

    Attributes:
        mean: the estimate; a number, or a tensor for a batch of estimates.
        standard_error: of the mean, in the same unit and shape.
        num_samples: how many independent draws the mean is over.
        warning: why the standard error cannot be trusted, or empty.

    Example:
        >>> estimate = Estimate(-1.7942, 0.0021, 1000)
        >>> print(estimate)
        -1.7942 ± 0.0021
        >>> round(estimate.z_score(-1.8), 2)
        2.76
    """

    mean: T
    standard_error: T
    num_samples: int
    warning: str = ""

    def z_score(self, reference: T) -> T:
        """Return the distance from an exact value in standard errors (elementwise).

        A distance of 0 gives 0, whatever the error. Any other gives an infinity where the error
        is 0. A NaN stays NaN.
        """
        gap = self.mean - reference
        if isinstance(gap, Tensor):
            return torch.where(gap == 0, 0.0, gap / self.standard_error)
        if self.standard_error == 0:
            return 0.0 if gap == 0 else math.copysign(math.inf, gap)
        return gap / self.standard_error

    def __str__(self) -> str:
        if isinstance(self.mean, Tensor):
            return f"Estimate of shape {tuple(self.mean.shape)} from {self.num_samples} draws"
        return plus_minus(self.mean, float(self.standard_error))


def counted(count: int, noun: str) -> str:
    """Return ``1 example``, ``2 examples``, and so on."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def plus_minus(mean: float, error: float) -> str:
    """Return ``mean ± error`` with two digits of the error, and the mean to the same place."""
    if not (math.isfinite(mean) and math.isfinite(error)) or error <= 0:
        return f"{mean:.6g}" if error == 0 else f"{mean:.4g} ± {error:.2g}"
    digits = 1 - math.floor(math.log10(error))
    if digits > 8 or mean != 0 and abs(math.log10(abs(mean))) > 6:
        return f"{mean:.4g} ± {error:.2g}"
    digits = max(digits, 0)
    return f"{mean:.{digits}f} ± {error:.{digits}f}"
