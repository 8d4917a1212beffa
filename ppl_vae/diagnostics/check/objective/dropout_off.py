"""Runs an objective without its dropout."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from ppl_vae.diagnostics.check.objective.noise_recorder import DROPS, OperationMode, arguments


class WithoutDropout(OperationMode):
    """Holds Bernoulli noise at its mean, which makes dropout the identity.

    Values only: the gradient of a fused dropout still has its scale.
    """

    def run(self, name: str, operation: partial) -> Any:  # noqa: ANN401
        """Run the operation, or return the mean of what it would draw."""
        if name not in DROPS:
            return operation()
        given = arguments(operation)
        if name == "aten::native_dropout":
            return given["input"].clone(), torch.ones_like(given["input"], dtype=torch.bool)
        out, p = given["self"], given.get("p")
        if name == "aten::bernoulli_":
            return out.copy_(p) if torch.is_tensor(p) else out.fill_(0.5 if p is None else p)
        return out.clone() if p is None else torch.full_like(out, p)
