"""What torch's and Pyro's optimisers do, as functions of tensors for a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.infer.util import zero_grads
from pyro.optim import PyroOptim
from pyro.optim.clipped_adam import ClippedAdam
from pyro.optim.optim import _load_state_dict
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

Options = dict[str, Any]
Scalars = list[Tensor]
Rule = Callable[[Tensor, Tensor, list[Tensor], Scalars, Options], tuple[Tensor, list[Tensor]]]


def adam_scalars(state: list[Tensor], lr: Tensor, options: Options) -> Scalars:
    """Return rate, inverse root of the correction, and factor of decay of Adam's next step."""
    count = (state[0] + 1).double()
    beta1, beta2 = options["betas"]
    shrunk = 1 - lr * options["weight_decay"] * options["decoupled"]
    return [lr / (1 - beta1**count), (1 - beta2**count).rsqrt(), shrunk]


def adam(
    p: Tensor, g: Tensor, state: list[Tensor], scalars: Scalars, options: Options
) -> tuple[Tensor, list[Tensor]]:
    """Return parameter and state after a step of Adam or AdamW."""
    step, mean, square, *largest = state
    beta1, beta2 = options["betas"]
    rate, root, shrunk = scalars
    if options["maximize"]:
        g = -g
    if options["weight_decay"] and options["decoupled"]:
        p = p * shrunk
    elif options["weight_decay"]:
        g = g + options["weight_decay"] * p
    mean = torch.lerp(mean, g, 1 - beta1)
    square = torch.addcmul(square * beta2, g, g, value=1 - beta2)
    if largest:
        largest = [torch.maximum(largest[0], square)]
    spread = (largest or [square])[0].sqrt() * root + options["eps"]
    return p - rate * mean / spread, [step + 1, mean, square, *largest]


def clipped_adam_scalars(state: list[Tensor], lr: Tensor, options: Options) -> Scalars:
    """Return the rate of ClippedAdam's next step."""
    count = state[0] + 1
    beta1, beta2 = options["betas"]
    return [lr * (1 - beta2**count).sqrt() / (1 - beta1**count)]


def clipped_adam(
    p: Tensor, g: Tensor, state: list[Tensor], scalars: Scalars, options: Options
) -> tuple[Tensor, list[Tensor]]:
    """Return parameter and state after a step of Pyro's ClippedAdam."""
    step, mean, square = state
    beta1, beta2 = options["betas"]
    g = g.clamp(-options["clip_norm"], options["clip_norm"])
    if options["weight_decay"]:
        g = g + options["weight_decay"] * p
    mean = mean * beta1 + g * (1 - beta1)
    spread = g - mean if options["centered_variance"] else g
    square = torch.addcmul(square * beta2, spread, spread, value=1 - beta2)
    return p - scalars[0] * mean / (square.sqrt() + options["eps"]), [step + 1, mean, square]


def sgd(
    p: Tensor, g: Tensor, state: list[Tensor], scalars: Scalars, options: Options
) -> tuple[Tensor, list[Tensor]]:
    """Return parameter and state after a step of SGD, with momentum or without."""
    if options["maximize"]:
        g = -g
    if options["weight_decay"]:
        g = g + options["weight_decay"] * p
    if state:
        state = [state[0] * options["momentum"] + g * (1 - options["dampening"])]
        g = g + options["momentum"] * state[0] if options["nesterov"] else state[0]
    return p - scalars[0] * g, state


# What a rule needs in addition to tensors of the parameter's size, as float64 numbers.
SCALARS: dict[Rule, Callable[[list[Tensor], Tensor, Options], Scalars]] = {
    adam: adam_scalars,
    clipped_adam: clipped_adam_scalars,
    sgd: lambda _, lr, __: [lr],
}
_NAMES: dict[Rule, tuple[str, ...]] = {
    adam: ("betas", "eps", "weight_decay", "amsgrad", "maximize"),
    clipped_adam: ("betas", "eps", "weight_decay", "clip_norm", "centered_variance", "lrd"),
    sgd: ("momentum", "dampening", "weight_decay", "nesterov", "maximize"),
}
_RULES: dict[type[Optimizer], Rule] = {
    Adam: adam,
    AdamW: adam,
    ClippedAdam: clipped_adam,
    SGD: sgd,
}


@dataclass
class Slot:
    """One parameter with the optimiser that changes it.

    Attributes:
        parameter: the tensor that is changed.
        optimizer: a torch optimiser that holds it.
        group: the optimiser's settings for it.
        rule: what a step does.
        clip: Pyro's ``clip_args`` for it.
    """

    parameter: Tensor
    optimizer: Optimizer
    group: Options
    rule: Rule
    clip: Options

    def options(self) -> Options:
        """Return the settings that are written into the graph: all but the learning rate."""
        found = {name: self.group[name] for name in _NAMES[self.rule]}
        decoupled = isinstance(self.optimizer, AdamW) or self.group.get(
            "decoupled_weight_decay", False
        )
        return {**found, "decoupled": bool(decoupled), "clip": self.clip}

    def state(self) -> list[Tensor]:
        """Return the optimiser's own state tensors, as it would make them at its first step."""
        if self.rule is sgd and not self.group["momentum"]:
            return []
        state = self.optimizer.state[self.parameter]
        if self.rule is sgd:
            if state.get("momentum_buffer") is None:
                state["momentum_buffer"] = torch.zeros_like(self.parameter.detach())
            return [state["momentum_buffer"]]
        if not state:
            zero = torch.zeros((), device=self.parameter.device, dtype=torch.float32)
            state["step"] = 0 if self.rule is clipped_adam else zero
            for name in self._moments():
                state[name] = torch.zeros_like(self.parameter.detach())
        moments = [state[name] for name in self._moments()]
        if self.rule is clipped_adam:
            count = torch.tensor(float(state["step"]), dtype=torch.float64)
            return [count.to(self.parameter.device), *moments]
        if state["step"].device != self.parameter.device:
            # A graph of the GPU cannot read what the CPU counts.
            state["step"] = state["step"].to(self.parameter.device)
            self.group["capturable"] = True
        return [state["step"], *moments]

    def _moments(self) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq") + (("max_exp_avg_sq",) * bool(self.group.get("amsgrad")))


def slots(optimizer: PyroOptim | Optimizer, parameters: Sequence[Tensor]) -> list[Slot] | None:
    """Return one slot for each parameter that `optimizer` changes.

    Returns:
        None if it is not Adam, AdamW, SGD or ClippedAdam (with or without a schedule), whose
        steps are then taken by the optimiser itself.
    """
    found = []
    for parameter in parameters:
        one, clip = _optimizer_of(optimizer, parameter)
        if one is None:
            continue
        rule = _RULES.get(type(one))
        groups = [g for g in one.param_groups if any(p is parameter for p in g["params"])]
        if rule is None or one._optimizer_step_pre_hooks or one._optimizer_step_post_hooks:
            return None
        if isinstance(groups[0]["lr"], Tensor) or groups[0].get("differentiable"):
            return None
        if groups[0].get("dampening"):
            return None  # counts from the second step on
        if parameter.is_complex() or parameter.is_sparse:
            return None
        found.append(Slot(parameter, one, groups[0], rule, clip))
    return found


def step_alone(
    optimizer: PyroOptim | Optimizer,
    parameters: Sequence[Tensor],
    trained: Sequence[Tensor],
    gradients: Sequence[Tensor],
) -> None:
    """Let an optimiser that is no part of a graph take its step, as ``SVI`` does, or a loop.

    Args:
        optimizer: who changes the parameters.
        parameters: all that a step knows.
        trained: those with a gradient.
        gradients: theirs.
    """
    if isinstance(optimizer, Optimizer):
        for parameter in parameters:
            parameter.grad = None
    for parameter, gradient in zip(trained, gradients, strict=True):
        parameter.grad = gradient
    if isinstance(optimizer, Optimizer):
        optimizer.step()
    else:
        optimizer(list(trained))
        zero_grads(trained)  # Pyro's next step would add to them


def _optimizer_of(
    optimizer: PyroOptim | Optimizer, parameter: Tensor
) -> tuple[Optimizer | None, Options]:
    """Return the torch optimiser of a parameter, made as Pyro would, and Pyro's clip_args."""
    if isinstance(optimizer, Optimizer):
        held = any(p is parameter for g in optimizer.param_groups for p in g["params"])
        return (optimizer if held else None), {}
    if parameter not in optimizer.optim_objs:
        made: Any = optimizer._get_optim(parameter)  # pyright: ignore[reportArgumentType]
        optimizer.optim_objs[parameter] = made
        optimizer.grad_clip[parameter] = optimizer._get_grad_clip(parameter)  # pyright: ignore
        name = pyro.get_param_store().param_name(parameter)
        waiting = optimizer._state_waiting_to_be_consumed.pop(name, None)
        if waiting is not None:
            _load_state_dict(made, waiting)
    one = optimizer.optim_objs[parameter]
    clips = optimizer.grad_clip[parameter] is not None
    clip: Any = optimizer._get_grad_clip_args(parameter) if clips else {}  # pyright: ignore
    return getattr(one, "optimizer", one), dict(clip)
