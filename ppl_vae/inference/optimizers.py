"""Torch's and Pyro's optimisers behind one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from pyro.optim import PyroOptim
from pyro.optim.lr_scheduler import PyroLRScheduler
from torch import Tensor
from torch.optim import Optimizer

from ppl_vae import checks
from ppl_vae.pair import Pair

OptimizerLike = PyroOptim | Optimizer | Callable[[Iterable[Tensor]], Optimizer] | None

DEFAULT_LEARNING_RATE = 1e-3


class Updater:
    """Changes a pair's parameters by their gradients, with any optimiser.

    Args:
        optimizer: a ``pyro.optim`` optimiser or scheduler; a torch optimiser over the pair's
            parameters; a function of the parameters that makes one, such as
            ``functools.partial(torch.optim.SGD, lr=0.1)``; or None for Adam at 1e-3.
        pair: what is trained.

    Raises:
        TypeError: none of these.
        ValueError: a torch optimiser over other parameters.
    """

    def __init__(self, optimizer: OptimizerLike, pair: Pair) -> None:
        self._pair = pair
        if optimizer is None:
            optimizer = torch.optim.Adam(pair.parameters(), lr=DEFAULT_LEARNING_RATE, fused=True)
        elif callable(optimizer) and not isinstance(optimizer, (PyroOptim, Optimizer)):
            optimizer = optimizer(pair.parameters())
        if not isinstance(optimizer, (PyroOptim, Optimizer)):
            raise TypeError(
                checks.message(
                    "optimizer as a torch or Pyro optimiser, or a function that makes one",
                    type(optimizer).__name__,
                    "For example functools.partial(torch.optim.Adam, lr=1e-3).",
                )
            )
        if isinstance(optimizer, Optimizer):
            held = {id(p) for group in optimizer.param_groups for p in group["params"]}
            if not held & {id(p) for p in pair.parameters()}:
                raise ValueError(
                    checks.message(
                        "an optimizer over the pair's parameters",
                        "one over others",
                        "Build it with pair.parameters(), or pass a function that does.",
                    )
                )
        self.optimizer = optimizer

    def __call__(self, parameters: list[Tensor]) -> None:
        """Take one step with the parameters that have a gradient."""
        if isinstance(self.optimizer, Optimizer):
            self.optimizer.step()
        else:
            self.optimizer(parameters)

    def end_epoch(self) -> None:
        """Advance a Pyro learning-rate schedule."""
        if isinstance(self.optimizer, PyroLRScheduler):
            self.optimizer.step()

    def describe(self) -> dict[str, Any]:
        """Return the optimiser's class and settings, as JSON's types."""
        if isinstance(self.optimizer, Optimizer):
            settings = self.optimizer.defaults
            kind = type(self.optimizer).__name__
        else:
            arguments = self.optimizer.pt_optim_args
            settings = arguments if isinstance(arguments, dict) else {}
            kind = f"pyro.optim.{getattr(self.optimizer.pt_optim_constructor, '__name__', '?')}"
        return {"class": kind} | {k: v for k, v in settings.items() if _is_plain(v)}

    def state(self) -> Any:  # noqa: ANN401
        """Return the optimiser's state, free of names that hold in this process only."""
        if isinstance(self.optimizer, Optimizer):
            return self.optimizer.state_dict()
        state = self.optimizer.get_state()
        return {name.partition("$$$")[2]: value for name, value in state.items()}

    def restore(self, state: Any) -> None:  # noqa: ANN401
        """Put back what `state` returned."""
        if isinstance(self.optimizer, Optimizer):
            self.optimizer.load_state_dict(state)
        else:
            prefix = self._pair.param_prefix
            for parameter in self._pair.parameters():  # what is there would not read the state
                self.optimizer.optim_objs.pop(parameter, None)
            self.optimizer.set_state({f"{prefix}$$${k}": v for k, v in state.items()})


def _is_plain(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))
