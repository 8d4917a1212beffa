"""What data must satisfy, in words: one function per support."""

from __future__ import annotations

from torch import Tensor

from ppl_vae import checks

COUNTS = "whole numbers of 0 or more only (counts)"


def counts(name: str, value: Tensor) -> Tensor:
    """Return `value`; raise ValueError unless every entry is 0, 1, 2, ..."""
    return checks.require(
        name,
        value,
        lambda v: (v >= 0) & (v == v.floor()) & v.isfinite(),
        COUNTS,
        "Pass raw counts: neither normalised, nor their logarithms.",
    )


def unit_interval(name: str, value: Tensor) -> Tensor:
    """Return `value`; raise ValueError unless every entry is in [0, 1]."""
    return checks.require(
        name,
        value,
        lambda v: (v >= 0) & (v <= 1),
        "numbers from 0 to 1 only (a continuous Bernoulli's support)",
        "Scale pixels to [0, 1], as load(..., binarize='none') does.",
    )


def labels(name: str, value: Tensor, *, num_classes: int) -> Tensor:
    """Return `value`; raise ValueError unless every entry is one of 0, ..., num_classes - 1."""
    return checks.require(
        name,
        value,
        lambda v: (v >= 0) & (v < num_classes) & (v == v.floor()),
        f"whole numbers from 0 to {num_classes - 1} only (labels of {num_classes} classes)",
        f"Quantise the data, or pass likelihood={{'name': 'categorical', 'num_classes': K}} "
        f"with another K than {num_classes}.",
    )
