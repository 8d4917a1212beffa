"""Torch's and Pyro's optimisers behind one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import nan
from typing import Any

import pyro
import torch
from pyro.optim import PyroOptim
from pyro.optim.lr_scheduler import PyroLRScheduler
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from ppl_vae import checks
from ppl_vae.functions import require_trainable
from ppl_vae.inference.steps.schedules import EachStep
from ppl_vae.pair import Pair

OptimizerLike = PyroOptim | Optimizer | Callable[[Iterable[Tensor]], Optimizer] | None
ScheduleLike = Callable[[Optimizer], LRScheduler] | EachStep | None

DEFAULT_LEARNING_RATE = 1e-3


class Updater:
    """Changes a pair's parameters by their gradients, with any optimiser.

    Args:
        optimizer: a ``pyro.optim`` optimiser or scheduler; a torch optimiser over the pair's
            parameters; a function of the parameters that makes one, such as
            ``functools.partial(torch.optim.SGD, lr=0.1)``; or None for Adam at 1e-3.
        pair: what is trained.
        schedule: a function of a torch optimiser that makes a scheduler, which advances at the end
            of every epoch, or `EachStep` of one; ``ReduceLROnPlateau`` is told the ELBO.

    Raises:
        TypeError: none of these, or a schedule that makes no scheduler.
        ValueError: a torch optimiser over other parameters; a scheduler of another optimiser;
            a pair without a parameter to train.
        NotImplementedError: a schedule of a Pyro optimiser, which has its own.
    """

    def __init__(
        self, optimizer: OptimizerLike, pair: Pair, schedule: ScheduleLike = None
    ) -> None:
        self._pair = pair
        require_trainable(pair)
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
        self.each_step = isinstance(schedule, EachStep)
        self._schedule = self._scheduler(schedule)

    def __call__(self, parameters: list[Tensor]) -> None:
        """Take one step with the parameters that have a gradient."""
        if isinstance(self.optimizer, Optimizer):
            self.optimizer.step()
        else:
            self.optimizer(parameters)

    def end_step(self) -> None:
        """Advance a schedule of steps."""
        self._tell_schedule()
        if self._schedule is not None and self.each_step:
            self._schedule.step()

    def end_epoch(self, elbo: float) -> None:
        """Advance a schedule of epochs, which may look at the ELBO."""
        self._tell_schedule()
        if isinstance(self.optimizer, PyroLRScheduler):
            self.optimizer.step()
        elif isinstance(self._schedule, ReduceLROnPlateau):
            self._schedule.step(-elbo)
        elif self._schedule is not None and not self.each_step:
            self._schedule.step()

    def forget(self) -> None:
        """Take the pair's parameters out of Pyro's store, which would keep them for ever.

        They stay where a Pyro optimiser has the state of each under its name there.
        """
        store: Any = pyro.get_param_store()
        prefix = f"{self._pair.param_prefix}$$$"
        if isinstance(self.optimizer, Optimizer):
            # Not by `del`, which raises where one parameter has two names.
            for name in [name for name in store.keys() if name.startswith(prefix)]:
                store._param_to_name.pop(store._params.pop(name), None)
                store._constraints.pop(name, None)

    def _tell_schedule(self) -> None:
        # A compiled step takes the optimiser's place, and torch would warn of a first step missed.
        if self._schedule is not None:
            self.optimizer._opt_called = True  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def cycles_momentum(self) -> bool:
        """Whether a schedule changes more than the learning rate."""
        return bool(getattr(self._schedule, "cycle_momentum", False))

    @property
    def learning_rate(self) -> float:
        """That of the first group of parameters; NaN before Pyro's first step."""
        if isinstance(self.optimizer, Optimizer):
            return float(self.optimizer.param_groups[0]["lr"])
        first: Any = next(iter(self.optimizer.optim_objs.values()), None)
        return float(getattr(first, "optimizer", first).param_groups[0]["lr"]) if first else nan

    def _scheduler(self, schedule: ScheduleLike) -> Any:  # noqa: ANN401
        if schedule is None:
            return None
        if not isinstance(self.optimizer, Optimizer):
            raise checks.not_implemented(
                "a torch optimiser for schedule",
                f"{type(self.optimizer).__name__}, of Pyro",
                "Pass a torch optimiser, or Pyro's own scheduler as the optimiser.",
            )
        make = schedule.schedule if isinstance(schedule, EachStep) else schedule
        made = make(self.optimizer) if callable(make) else make
        if not isinstance(made, (LRScheduler, ReduceLROnPlateau)):
            raise checks.type_error(
                "schedule as a function of the optimiser that makes a torch scheduler",
                type(made).__name__,
                "For example functools.partial(torch.optim.lr_scheduler.StepLR, step_size=10).",
            )
        if made.optimizer is not self.optimizer:
            raise checks.value_error(
                "a scheduler of the optimizer that trains",
                "one of another optimizer",
                "Make it from the optimiser that the function is given.",
            )
        return made

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
            state = self.optimizer.state_dict()
            if self._schedule is not None:
                state["schedule"] = self._schedule.state_dict()
            return state
        state = self.optimizer.get_state()
        return {name.partition("$$$")[2]: value for name, value in state.items()}

    def restore(self, state: Any) -> None:  # noqa: ANN401
        """Put back what `state` returned."""
        if isinstance(self.optimizer, Optimizer):
            rest = dict(state)
            if self._schedule is not None:
                self._schedule.load_state_dict(rest.pop("schedule"))
            self.optimizer.load_state_dict(rest)
        else:
            prefix = self._pair.param_prefix
            for parameter in self._pair.parameters():  # what is there would not read the state
                self.optimizer.optim_objs.pop(parameter, None)
            self.optimizer.set_state({f"{prefix}$$${k}": v for k, v in state.items()})


def describe_schedule(schedule: ScheduleLike) -> dict[str, str]:
    """Return what a schedule is, for a run's settings; nothing if there is none."""
    make: Any = schedule.schedule if isinstance(schedule, EachStep) else schedule
    if make is None:
        return {}
    options = ", ".join(f"{name}={value}" for name, value in getattr(make, "keywords", {}).items())
    name = getattr(getattr(make, "func", make), "__qualname__", type(make).__name__)
    each = "step" if isinstance(schedule, EachStep) else "epoch"
    return {"schedule": f"{name}({options}) each {each}"}


def _is_plain(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))
