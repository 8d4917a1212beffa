"""An optimiser's step as part of a graph, on the optimiser's own state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ppl_vae.inference.compilation.optimizers.updates import SCALARS, Slot, clipped_adam

# Numbers in a parameter so small that the step's scalars may as well be computed in place.
_FEW = 64


class Updates:
    """Steps of some slots, in a graph.

    The state tensors are those of the optimisers, changed in place, so that a checkpoint or a
    step outside of the graph finds them as if the optimiser itself had run. Learning rates are an
    input of the graph, read from the optimisers before every run.

    Args:
        slots: parameters with their optimisers.

    Attributes:
        tensors: the graph's inputs: learning rates, then every slot's state.
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.slots = list(slots)
        self._states = [slot.state() for slot in self.slots]
        self._options = [slot.options() for slot in self.slots]
        self._groups: list[dict[str, Any]] = []
        for slot in self.slots:
            if not any(slot.group is g for g in self._groups):
                self._groups.append(slot.group)
        self._place = [
            next(i for i, g in enumerate(self._groups) if g is slot.group) for slot in self.slots
        ]
        self._seen = [float(g["lr"]) for g in self._groups]
        device = self.slots[0].parameter.device
        self._rates = torch.tensor(self._seen, dtype=torch.float64, device=device)
        self._counts = [
            slot.optimizer.state[slot.parameter]
            for slot in self.slots
            if slot.rule is clipped_adam
        ]
        self._decays = [float(g.get("lrd", 1.0)) for g in self._groups]
        self.tensors = [self._rates, *(t for state in self._states for t in state)]

    def is_current(self) -> bool:
        """Return whether the optimisers still hold these tensors and settings."""
        return all(
            self._holds(slot, state) and slot.options() == options
            for slot, state, options in zip(self.slots, self._states, self._options, strict=True)
        )

    def before(self) -> None:
        """Read the learning rates, which a schedule may have changed."""
        rates = [g["lr"] for g in self._groups]
        if rates != self._seen:
            self._seen = [float(rate) for rate in rates]
            on_gpu = self._rates.is_cuda  # from pinned memory, a copy waits for nothing
            rates = torch.tensor(self._seen, dtype=torch.float64, pin_memory=on_gpu)
            self._rates.copy_(rates, non_blocking=on_gpu)

    def after(self, num_steps: int) -> None:
        """Tell the optimisers what they keep as Python numbers."""
        for state in self._counts:
            state["step"] += num_steps
        for place, (group, decay) in enumerate(zip(self._groups, self._decays, strict=True)):
            if decay != 1:
                for _ in range(num_steps):
                    group["lr"] *= decay
                self._seen[place] = group["lr"]

    def apply(
        self, parameters: Sequence[Tensor], gradients: Sequence[Tensor], tensors: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return new parameters, and what `tensors` become."""
        rates, *flat = tensors
        if any(decay != 1 for decay in self._decays):
            rates = rates * torch.tensor(self._decays, dtype=torch.float64, device=rates.device)
        states = []
        for held in self._states:
            states.append(flat[: len(held)])
            flat = flat[len(held) :]
        scalars = [
            SCALARS[slot.rule](state, rates[place], options)
            for slot, state, place, options in zip(
                self.slots, states, self._place, self._options, strict=True
            )
        ]
        if any(p.numel() > _FEW for p in parameters):
            scalars = _kept(scalars)
        new_parameters, new_tensors = [], [rates]
        for number, (slot, p, g) in enumerate(zip(self.slots, parameters, gradients, strict=True)):
            options = self._options[number]
            g = _clipped(g, options["clip"])
            numbers = [scalar.to(p.dtype) for scalar in scalars[number]]
            p, state = slot.rule(p, g, states[number], numbers, options)
            new_parameters.append(p)
            new_tensors += state
        return new_parameters, new_tensors

    def _holds(self, slot: Slot, tensors: list[Tensor]) -> bool:
        state = slot.optimizer.state.get(slot.parameter)
        if not tensors:
            return True
        held = list(state.values()) if state else []
        start = 1 if slot.rule is clipped_adam else 0
        return all(any(t is h for h in held) for t in tensors[start:])


def _kept(scalars: list[list[Tensor]]) -> list[list[Tensor]]:
    """Compute the numbers once: a compiler would work out their powers for every few entries."""
    table = iter(torch.stack([scalar for each in scalars for scalar in each]).unbind())
    return [[next(table) for _ in each] for each in scalars]


def _clipped(g: Tensor, clip: dict[str, float]) -> Tensor:
    if clip.get("clip_norm") is not None:
        length = torch.linalg.vector_norm(g)
        g = g * (clip["clip_norm"] / (length + 1e-6)).clamp(max=1.0)
    if clip.get("clip_value") is not None:
        g = g.clamp(-clip["clip_value"], clip["clip_value"])
    return g
