"""Whether two runs of a step gave the same numbers."""

from __future__ import annotations

import torch
from torch import Tensor

# What two runs of the same operations may differ by; compiled ones, in another order, by more.
SAME = {torch.float64: 1e-12, torch.float32: 1e-5}
CLOSE = {torch.float64: 1e-10, torch.float32: 1e-3}
# In bfloat16 a compiled graph rounds less often, by 2 ** -9 each time. Gradients of examples that
# cancel each other are off by more: 5 % in a batch of 20.
NEAR = {torch.float64: 0.2, torch.float32: 0.2}


def alike(first: Tensor, second: Tensor, tolerances: dict[torch.dtype, float]) -> bool:
    """Return whether two tensors agree, relative to their length; NaN and infinity where both."""
    if not first.is_floating_point():
        return torch.equal(first, second)
    limit = tolerances.get(first.dtype, 1e-2)
    gap = (first.double() - second.double()).norm()
    return bool(gap <= limit * (first.double().norm() + torch.finfo(first.dtype).tiny)) or (
        torch.equal(first.isfinite(), second.isfinite()) and not bool(first.isfinite().all())
    )
