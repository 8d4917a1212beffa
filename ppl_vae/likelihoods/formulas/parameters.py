"""Any distribution with one of its parameters taken for another function of it, or two swapped."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHANGES = {
    "exp({}) (exponentiated twice?)": torch.exp,
    "log({}) (its logarithm taken for itself?)": torch.log,
    "{}^2": torch.square,
    "sqrt({})": torch.sqrt,
    "1 / {}": torch.reciprocal,
    "-{} (its sign, or 1 - probs for probs?)": torch.neg,
    "sigmoid({}) (a sigmoid twice?)": torch.sigmoid,
    "softplus({}) (softplus twice?)": F.softplus,
    "softplus(log({})) (softplus for exp?)": lambda value: F.softplus(value.log()),
    "exp({}) - 1 (exp for softplus?)": torch.expm1,
    "1 - {}": lambda value: 1 - value,
}


def wrong_parameters(fn: Any, x: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return the log-densities of `x` where a parameter is changed, or two are swapped."""
    own = parameters(fn)
    found = {}
    for words, changed in _changed(own):
        try:
            other = type(fn)(**{**own, **changed}, validate_args=False).log_prob(x)
        except (TypeError, ValueError, RuntimeError):
            continue  # such parameters do not make a distribution
        if other.shape == fn.log_prob(x).shape:
            found[words] = other
    return found


def parameters(fn: Any) -> dict[str, Tensor]:  # noqa: ANN401
    """Return the parameters from which a distribution was made, by name."""
    inner = vars(getattr(fn, "base_dist", fn)) | vars(fn)
    names = [name for name in type(fn).arg_constraints if torch.is_tensor(inner.get(name))]
    # Torch derives one of the two from the other on request, and keeps it.
    for first, second in (("logits", "probs"), ("gate_logits", "gate")):
        if first in names and second in names:
            names.remove(second)
    return {name: inner[name] for name in names}


def _changed(own: dict[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    for name, value in own.items():
        for shape, change in CHANGES.items():
            yield f"{name} is taken as {shape.format(name)}", {name: change(value)}
    for first, second in combinations(own, 2):
        if own[first].shape == own[second].shape:
            swapped = {first: own[second], second: own[first]}
            yield f"{first} and {second} are swapped", swapped
