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

_VARIES = "what its first run keeps depends on the data or draws"


class Trials:
    """Runs a program, and sees that it draws from torch alone and leaves Python's state alone.

    What the first run fills, such as a cache or Pyro's guess of the plates, may stay: if a second
    run on the same noise gives the same numbers, and leaves all as it is, and if a first run on
    other noise, and on other examples where `other` has them, fills in the same.

    Args:
        program: what is run first; it leaves gradients in the parameters and returns the loss.
        parameters: whose gradients are wanted.
        roots: the objects whose Python state is watched.
        seed: of the first run.
        autocast: makes the context of the run, for lower precision.
        other: `program` on other examples; none is itself.

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
        other: Callable[[], Tensor] | None = None,
    ) -> None:
        self._parameters, self._device = parameters, parameters[0].device
        self.watch = self._before = Watch(roots)
        try:
            self._first_runs(program, other or program, roots, seed, autocast)
        except BaseException:
            self.restore()
            raise

    def _first_runs(
        self,
        program: Callable[[], Tensor],
        other: Callable[[], Tensor],
        roots: Sequence[object],
        seed: int,
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> None:
        def run() -> tuple[Gradients, list[Tensor]]:
            return self.gradients(program, autocast), streams(self._device)

        self.first, drawn = self._undone(seed, run)
        if self._before.changed() is None:
            return
        self.watch = Watch(roots)
        filled = self.watch.filled_since(self._before)
        versions = _versions(filled)
        again, then = self.run(seed, run)
        if not same([*again, *then], [*self.first, *drawn]):
            raise UntraceableError("its first run gives other numbers than its second")
        if _versions(filled) != versions:
            raise UntraceableError("it changes in place a tensor that its first run makes")
        self.restore()
        try:
            self._undone(seed + 1, lambda: self.gradients(other, autocast))
        except (ArithmeticError, RuntimeError, ValueError):  # such as a matrix without an inverse
            raise UntraceableError(_VARIES) from None
        self.watch = Watch(roots)
        if not _all_equal(filled, self.watch.filled_since(self._before)):
            raise UntraceableError(_VARIES)

    def restore(self) -> None:
        """Put the program's Python state back as it was before the first run."""
        self._before.restore()

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


def _versions(values: Sequence[object]) -> list[int]:
    return [value._version for value in values if isinstance(value, Tensor)]


def _all_equal(first: Sequence[object], second: Sequence[object]) -> bool:
    return len(first) == len(second) and all(map(_equal, first, second))


def _equal(first: object, second: object) -> bool:
    if not (isinstance(first, Tensor) and isinstance(second, Tensor)):
        return type(first) is type(second) and first == second
    kinds = [(t.shape, t.dtype, t.device) for t in (first, second)]
    return kinds[0] == kinds[1] and alike(first.detach(), second.detach(), SAME)
