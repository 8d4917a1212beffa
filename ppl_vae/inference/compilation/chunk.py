"""Some steps of training as one function of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger

import torch
from torch import Tensor

from ppl_vae.inference.compilation.inductor.cuda_graph import Captured, why_not_captured
from ppl_vae.inference.compilation.inductor.lowering import lower
from ppl_vae.inference.compilation.optimizers.update_graph import Updates
from ppl_vae.inference.compilation.tracing.constants import UntraceableError
from ppl_vae.inference.compilation.tracing.graph import Graph

log = getLogger("ppl_vae.inference")
Tensors = Sequence[Tensor]


class Chunk:
    """Several steps in a row: gradient, then update, on the parameters' own memory.

    Args:
        graph: one step's loss and gradients; its inputs are arguments, then parameters.
        parameters: what is trained.
        updates: the optimiser's steps; None leaves the gradients to the caller.
        num_steps: how many steps there are in one call.
        each: whether every step has arguments of its own, along a first dimension.
    """

    def __init__(
        self,
        graph: Graph,
        parameters: Tensors,
        updates: Updates | None,
        *,
        num_steps: int = 1,
        each: bool = False,
    ) -> None:
        self.graph, self.updates, self.num_steps = graph, updates, num_steps
        self._each = each
        self._num_arguments = graph.num_inputs - len(parameters)
        if any(place < self._num_arguments for place in graph.changed):
            raise UntraceableError("it changes its arguments in place")
        tensors = updates.tensors if updates else []
        self._held = [t.detach() for t in (*parameters, *tensors, *graph.captured)]
        self._num_parameters, self._num_tensors = len(parameters), len(tensors)
        self._run = None
        self._noise: list[Tensor] = []
        self._fills = []
        for draw in graph.draws:
            rows = [draw.empty() for _ in range(num_steps)]
            memory = torch.stack(rows) if num_steps > 1 else rows[0]
            self._noise.append(memory)
            self._fills.append(list(memory.unbind(0)) if num_steps > 1 else [memory])

    def compile(self, arguments: Tensors, *, name: str, capture: bool) -> None:
        """Turn the steps into machine code; on a GPU record its kernels if `capture`.

        Raises:
            UntraceableError: that cannot be done here.
        """
        given = self._given(arguments)
        self._run = lower(self.body, given, name=name)
        if capture and any(t.is_cuda for t in given):
            reason = why_not_captured(self.graph.module, given)
            if reason is None:
                try:
                    self._run = Captured(self._run, self.draw, given, len(arguments))
                    return
                except RuntimeError as error:  # torch's of an operation that CUDA cannot record
                    reason = str(error).splitlines()[0]
            log.warning("compiled, but its kernels are launched one by one: %s", reason)

    def __call__(self, arguments: Tensors) -> list[Tensor]:
        """Take the steps; return the losses, (num_steps,), and gradients if none were applied."""
        if self.updates is not None:
            self.updates.before()
        results = self.execute(arguments, compiled=self._run is not None)
        if self.updates is not None:
            self.updates.after(self.num_steps)
        return results

    def execute(self, arguments: Tensors, *, compiled: bool) -> list[Tensor]:
        """Take the steps in one of the two ways, without telling the optimisers."""
        with torch.no_grad():
            if not (compiled and isinstance(self._run, Captured)):
                self.draw()
            given = self._given(arguments)
            if compiled and self._run is not None:
                return list(self._run(given))
            return self.body(*given)

    def draw(self) -> None:
        """Fill the noise from torch's global stream; that of several steps at once if it can be.

        One step draws what the program would draw. Of several steps each kind of noise is drawn
        for all of them together, since a call of the generator may cost more than a step.
        """
        for draw, memory, rows in zip(self.graph.draws, self._noise, self._fills, strict=True):
            if draw.overwrites:
                draw.fill(memory)
                continue
            for row in rows:
                draw.fill(row)

    def snapshot(self) -> list[Tensor]:
        """Return copies of everything that the steps change."""
        return [t.clone() for t in self._changing()]

    def put_back(self, snapshot: Tensors) -> None:
        """Undo steps."""
        with torch.no_grad():
            for tensor, old in zip(self._changing(), snapshot, strict=True):
                tensor.copy_(old)

    def body(self, *given: Tensor) -> list[Tensor]:
        """Take the steps, as a function of arguments, noise and what is held."""
        count = self._num_arguments
        arguments, rest = given[:count], given[count:]
        noise, held = rest[: len(self._noise)], list(rest[len(self._noise) :])
        now = list(held)
        losses, gradients = [], []
        for step in range(self.num_steps):
            one = [t[step] for t in arguments] if self._each else arguments
            drawn = [t[step] for t in noise] if self.num_steps > 1 else noise
            loss, gradients = self._step(one, drawn, now)
            losses.append(loss)
        for old, new in zip(held, now, strict=True):
            if new is not old:
                old.copy_(new)
        total = torch.stack(losses)
        return [total] if self.updates is not None else [total, *gradients]

    def _step(
        self, arguments: Tensors, noise: Tensors, now: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Take one step on `now`: parameters, optimiser state, captured tensors."""
        cut, end = self._num_parameters, self._num_parameters + self._num_tensors
        results = self.graph.module(*arguments, *now[:cut], *now[end:], *noise)
        count = self.graph.num_results
        loss, gradients = results[0], list(results[1:count])
        for place, value in zip(self.graph.changed, results[count:], strict=True):
            place -= self._num_arguments
            now[place if place < cut else place + self._num_tensors] = value
        if self.updates is not None:
            now[:cut], now[cut:end] = self.updates.apply(now[:cut], gradients, now[cut:end])
        return loss, gradients

    def _given(self, arguments: Tensors) -> list[Tensor]:
        return [*(t.detach() for t in arguments), *self._noise, *self._held]

    def _changing(self) -> list[Tensor]:
        end = self._num_parameters + self._num_tensors
        places = [place - self._num_arguments for place in self.graph.changed]
        captured = [p + self._num_tensors for p in places if p >= self._num_parameters]
        return [*self._held[:end], *(self._held[p] for p in captured)]
