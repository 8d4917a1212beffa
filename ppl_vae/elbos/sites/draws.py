"""Model and guide run once: their traces, and the path through the latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from pyro.infer.enum import get_importance_trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_struct import Trace
from torch import Tensor

Function = Callable[..., Any]


class Program(NamedTuple):
    """Model and guide with the arguments they are run with."""

    model: Function
    guide: Function
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def unwrapped(function: Function, *handlers: type[Messenger]) -> Function:
    """Return what handlers of some kinds are wrapped around."""
    while isinstance(function, partial):
        args = getattr(function.func, "args", ())
        if len(args) != 2 or not isinstance(args[0], handlers):
            break
        function = args[1]
    return function


class CutAtLatents(Messenger):
    """Replaces every latent by a leaf, which separates what depends on it from how it was drawn.

    Attributes:
        drawn: each latent's name with the value that its distribution drew, whose gradient leads
            to the distribution's parameters.
        leaves: each latent's name with the leaf that guide and model went on with.
    """

    def __init__(self) -> None:
        super().__init__()
        self.drawn: dict[str, Tensor] = {}
        self.leaves: dict[str, Tensor] = {}

    def _pyro_post_sample(self, msg: dict[str, Any]) -> None:
        name = msg["name"]
        if msg["is_observed"] or name in self.drawn or not torch.is_tensor(msg["value"]):
            return
        if not msg["value"].is_floating_point():  # the indices of a plate that subsamples
            return
        self.drawn[name] = msg["value"]
        self.leaves[name] = msg["value"] = msg["value"].detach().requires_grad_()


class Given(Messenger):
    """Gives latent sites the values that it was made with; they stay latent.

    Args:
        values: by the sites' names.
    """

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        if not msg["is_observed"] and msg["name"] in self.values:
            msg["value"] = self.values[msg["name"]]
            msg["done"] = True


@dataclass
class Draw:
    """One particle, or all of them along one dimension.

    Attributes:
        model: the model's trace, run against the guide's.
        guide: the guide's trace.
        cut: the latents before and after the cut; empty if the estimator cuts nothing.
    """

    model: Trace
    guide: Trace
    cut: CutAtLatents

    def path(self, objective: Tensor) -> Tensor:
        """Return a scalar, 0, with the gradient of `objective` through the latents alone.

        Any other dependence of `objective` on the guide's parameters is left out: the guide's
        graph was cut at every latent, and from the last latent to the first, the derivative by
        the leaf is carried over to the leaves from which that latent was drawn.
        """
        return self.through(self.cut.drawn, objective)

    def through(self, drawn: dict[str, Tensor], objective: Tensor) -> Tensor:
        """Return a scalar, 0, with the gradient of `objective` through values drawn of the leaves.

        Args:
            drawn: by name, in the order in which they were drawn, values equal to the leaves, as
                functions of parameters and of the leaves before them.
            objective: a scalar, of the leaves.
        """
        names = list(drawn)
        leaves = [self.cut.leaves[name] for name in names]
        slopes = list(_slopes(objective, leaves))
        total = objective.new_zeros(())
        for last in reversed(range(len(names))):
            value = drawn[names[last]]
            if not value.requires_grad:
                continue
            for earlier, slope in enumerate(_slopes(value, leaves[:last], slopes[last])):
                slopes[earlier] = slopes[earlier] + slope
            total = total + (slopes[last].detach() * value).sum()
        return total - total.detach()


def draw_traces(program: Program) -> tuple[Any, Any]:
    """Return the traces of model and guide at one draw, with their log-densities."""
    return get_importance_trace("flat", float("inf"), *program)


def _slopes(
    output: Tensor, inputs: list[Tensor], cotangent: Tensor | None = None
) -> tuple[Tensor, ...]:
    if not inputs or not output.requires_grad:
        return tuple(torch.zeros_like(leaf) for leaf in inputs)
    return torch.autograd.grad(
        output, inputs, cotangent, retain_graph=True, allow_unused=True, materialize_grads=True
    )
