"""Parameters that a step registers but that its loss does not depend on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor


class NewParameterError(Exception):
    """A program registers a parameter that no step has had; the argument is its name."""


def with_idle(
    gradient: Callable[..., Any], parameters: Mapping[str, Tensor]
) -> Callable[..., Any]:
    """Return `gradient` with zeros for the parameters that had a gradient in an earlier step.

    Pyro sets gradients to zero after a step, not to None. So a parameter that a step registers
    without using it is moved all the same, by the optimiser's momentum: the encoder of the labels,
    say, at a batch whose labels are known.

    Args:
        gradient: leaves gradients in the parameters, returns the loss.
        parameters: those known so far, by their names in Pyro's param store.
    """
    active = {name for name, parameter in parameters.items() if parameter.grad is not None}

    def with_zeros(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        store: Any = pyro.get_param_store()
        before = [dict(held) for held in _held(store)]
        with poutine.trace(param_only=True) as capture:
            loss = gradient(*args, **kwargs)
        for name in capture.trace.nodes:
            if name not in parameters:
                for held, old in zip(_held(store), before, strict=True):
                    held.clear()
                    held.update(old)
                raise NewParameterError(name)
            if name in active and parameters[name].grad is None:
                parameters[name].grad = torch.zeros_like(parameters[name])
        return loss

    return with_zeros


def _held(store: Any) -> tuple[dict[Any, Any], ...]:  # noqa: ANN401
    return store._params, store._param_to_name, store._constraints
