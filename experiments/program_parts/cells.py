"""What an entry point makes of a program: right, refused with a reason, or neither."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from program_parts.small import Small

Z_LIMIT = 4.5
RIGHT, REFUSED, WRONG = "right", "refused", "WRONG"


@dataclass(frozen=True)
class Cell:
    """One entry point on one program.

    Attributes:
        verdict: ``right``, ``refused``, or ``WRONG``.
        detail: the error in standard errors or in nats, or the reason.
    """

    verdict: str
    detail: str

    def __str__(self) -> str:
        return f"{self.verdict}: {self.detail}" if self.detail else self.verdict


def judged(z: float, beside: str = "") -> Cell:
    """Return the cell of a number that is so many standard errors from the truth."""
    return Cell(RIGHT if abs(z) <= Z_LIMIT else WRONG, f"z {z:.1f}{beside}")


def z_score(samples: Tensor, truth: float) -> float:
    """Return how many standard errors a mean is from the truth; 0 within rounding."""
    gap = float(samples.double().mean()) - truth
    error = float(samples.double().std()) / math.sqrt(len(samples))
    rounding = 1e-9 * max(1.0, abs(truth))
    return 0.0 if abs(gap) <= rounding else gap / max(error, rounding)


def slack(pair: Small) -> float:
    """Return what the sums over the grid may miss, in nats."""
    return 1e-9 if pair.spec.smooth else 1e-4
