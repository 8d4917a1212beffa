"""Runs of a program on given noise, after which everything is as it was before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from torch import Tensor

from ppl_vae.inference.compilation.agreement import SAME, alike
from ppl_vae.inference.compilation.tracing.assignment import assigned_in_place
from ppl_vae.inference.compilation.tracing.constants import UntraceableError
from ppl_vae.inference.compilation.tracing.undo import undone
from ppl_vae.inference.compilation.tracing.watch import Watch
from ppl_vae.seeding import streams

T = TypeVar("T")
Gradients = list[Any]


class Trials:
    """Runs a program, and sees that it draws from torch alone and leaves Python's state alone.

    What the first run fills, such as a cache or Pyro's guess of the plates, may stay: if a second
    run on the same noise gives the same numbers, and leaves all as it is.

    Args:
        program: what is run first; it leaves gradients in the parameters and returns the loss.
        parameters: whose gradients are wanted.
        roots: the objects whose Python state is watched.
        seed: of the first run.
        autocast: makes the context of the run, for lower precision.

    Attributes:
        first: the loss of the first run, and each parameter's gradient or None.
        watch: of what `roots` lead to.

    Raises:
        UntraceableError: the program changes Python's state at every run, or draws elsewhere.
    """

    def __init__(
        self,
        program: Callable[[], Tensor],
        parameters: Sequence[Tensor],
        roots: Sequence[object],
        seed: int,
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._parameters, self._device = parameters, parameters[0].device
        self.watch = before = Watch(roots)

        def run() -> tuple[Gradients, list[Tensor]]:
            return self.gradients(program, autocast), streams(self._device)

        self.first, drawn = self._undone(seed, run)
        if before.changed() is None:
            return
        self.watch = Watch(roots)
        try:
            again, then = self.run(seed, run)
            if not same([*again, *then], [*self.first, *drawn]):
                raise UntraceableError("its first run gives other numbers than its second")
        except UntraceableError:
            before.restore()
            raise

    def run(self, seed: int, function: Callable[[], T]) -> T:
        """Return what a function gives on the noise of a seed."""
        result = self._undone(seed, function)
        name = self.watch.changed()
        if name is not None:
            self.watch.restore()
            raise UntraceableError(f"it changes a Python variable ({name}) as it runs")
        return result

    def _undone(self, seed: int, function: Callable[[], T]) -> T:
        with undone(self._device) as strayed:
            torch.manual_seed(seed)
            result = function()
            if strayed():
                raise UntraceableError("it draws random numbers from Python or NumPy")
        return result

    def gradients(
        self,
        program: Callable[[], Tensor],
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> Gradients:
        """Return the loss, and each parameter's gradient or None."""
        for parameter in self._parameters:
            parameter.grad = None
        with torch.enable_grad(), autocast(), assigned_in_place():
            loss = program()
            # ReweightedWakeSleep has several.
            loss = torch.stack(loss) if isinstance(loss, tuple) else torch.as_tensor(loss)
        return [loss.detach(), *(p.grad for p in self._parameters)]


def same(first: Gradients, second: Gradients) -> bool:
    """Return whether two runs gave the same loss and gradients, up to rounding."""
    return all(
        a is b if a is None or b is None else alike(a, b, SAME)
        for a, b in zip(first, second, strict=True)
    )
