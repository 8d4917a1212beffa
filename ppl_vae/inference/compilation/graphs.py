"""Which graph takes the steps of a call, or why Pyro does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from logging import getLogger
from typing import Any

import pyro
import torch
from pyro.infer import ELBO, SVI
from torch import Tensor

from ppl_vae.inference.compilation.arguments.call import Call, Numbers
from ppl_vae.inference.compilation.idle import NewParameterError, with_idle
from ppl_vae.inference.compilation.inductor.precision import autocast
from ppl_vae.inference.compilation.stepper import Stepper
from ppl_vae.inference.compilation.tracing.constants import UntraceableError
from ppl_vae.inference.steps.deferred import deferred

log = getLogger("ppl_vae.inference")

# After so many traces for arguments of one kind, something changes all the time.
MAX_TRACES = 4
MAX_GRAPHS = 8
MAX_MET = 100


class Graphs:
    """The graphs of one model and guide: one for each kind of arguments.

    Args:
        svi: whose steps they take.
        loss: its estimator, or loss function.
        backend: as in `CompiledSVI`.
        precision: likewise.
        cuda_graph: likewise.

    Attributes:
        why_none: why there was none for the last call, or None.
    """

    def __init__(
        self,
        svi: SVI,
        loss: ELBO | Callable[..., Any],
        *,
        backend: str,
        precision: str | None,
        cuda_graph: bool,
    ) -> None:
        self._svi, self._loss, self._precision = svi, loss, precision
        self._options: dict[str, Any] = {"backend": backend, "cuda_graph": cuda_graph}
        self.why_none: str | None = "no step was taken yet"
        self._gave_up = False
        self._parameters: dict[str, Tensor] = {}
        self._steppers: dict[object, Stepper] = {}
        self._idle: dict[object, list[Tensor]] = {}
        self._met: dict[object, int] = {}
        self._traces: dict[object, int] = {}
        self._numbers = Numbers()

    def __len__(self) -> int:
        return len(self._steppers)

    @property
    def dtype(self) -> torch.dtype:
        """That of the first parameter, or torch's default before there is one."""
        return self._first().dtype if self._parameters else torch.get_default_dtype()

    def stepper(self, call: Call) -> Stepper | None:
        """Return what takes the steps of a call, or None."""
        return self._stepper(self._numbers.of(call))

    def tensors(self, call: Call) -> list[Tensor]:
        """Return the inputs of the call's graph."""
        return self._numbers.of(call).tensors(self._first())

    def keep_parameters(self, names: Any) -> None:  # noqa: ANN401
        """Note the parameters of a step that Pyro took, by their names.

        What the store holds, not what the step was handed: an average baseline is assigned to it.
        """
        store = pyro.get_param_store()._params
        found = {name: store[name] for name in names if name in store}
        merged = {**self._parameters, **found}
        merged = {name: p for name, p in merged.items() if store.get(name) is p}
        if any(self._parameters.get(name) is not p for name, p in merged.items()):
            self._steppers.clear()
        self._parameters = merged

    def give_up(self, reason: str) -> None:
        """Leave all further steps to Pyro."""
        self.why_none, self._gave_up = reason, True
        log.warning("not compiled, Pyro does the steps: %s", reason)

    def _stepper(self, call: Call) -> Stepper | None:
        if self._gave_up:
            return None
        if not self._parameters:
            return self._none("the first step, which makes the parameters, is Pyro's")
        store = pyro.get_param_store()._params
        if any(store.get(name) is not p for name, p in self._parameters.items()):
            return self._none("parameters are new, or were registered anew")
        kinds = tuple((p.dtype, p.device) for p in self._parameters.values())
        key = (call.signature(), kinds)
        found = self._steppers.get(key)
        why = None if found is None else found.is_current()
        if found is not None and why is None and self._has_become_active(key):
            why = "a parameter that a step registers has a gradient now"
        if found is not None and why is None:
            self.why_none = None
            return found
        if strange := call.strange():
            return self.give_up(f"an argument is of type {strange}, or holds it")
        if found is None and len(self._steppers) >= MAX_GRAPHS:
            return self._none(
                f"there are graphs for {MAX_GRAPHS} shapes or values of the arguments already"
            )
        if len(self._met) > MAX_MET:  # keys hold objects, perhaps new ones at every step
            self._met.clear()
        self._met[key] = self._met.get(key, 0) + 1
        if self._met[key] == 1 and self._steppers:
            return self._none("a further graph is made at the second call of its kind")
        self._traces[key] = self._traces.get(key, 0) + 1
        if self._traces[key] > MAX_TRACES:
            return self.give_up("Python variables change all the time; pass tensors")
        if self._steppers:
            log.info("tracing again: %s", why or "arguments of a new shape, dtype or value")
        return self._build(key, call)

    def _build(self, key: object, call: Call) -> Stepper | None:
        model, guide = self._svi.model, self._svi.guide
        plain: Any = deferred(self._loss) if isinstance(self._loss, ELBO) else self._svi
        gradient = with_idle(partial(plain.loss_and_grads, model, guide), self._parameters)
        data = [] if call.data is None else [call.data]
        roots = [model, guide, self._loss, *data, *call.objects()]
        like = self._first()
        trials = [call, self._numbers.at_first(call)] if call.numbers else []
        try:
            self._steppers[key] = Stepper(
                call.program(gradient, self.dtype),
                call.tensors(like),
                list(self._parameters.values()),
                self._svi.optim,
                roots,
                trials=[(partial(c.loss_of, gradient), c.tensors(like)) for c in trials],
                probe=partial(call.unhashable().loss_of, gradient) if call.numbers else None,
                patient=True,
                autocast=autocast(self._precision, like.device),
                **self._options,
            )
        except NewParameterError as error:
            return self._none(f"{error.args[0]!r}, a parameter, was in no step before")
        except Exception as error:
            if call.numbers:  # a tensor will not do in the place of a number
                return self._stepper(self._numbers.keep_constant(call))
            if not isinstance(error, UntraceableError):
                raise
            return self.give_up(str(error))
        self.why_none = None
        self._idle[key] = [p for p in self._parameters.values() if p.grad is None]
        for parameter in self._steppers[key].trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return self._steppers[key]

    def _has_become_active(self, key: object) -> bool:
        return any(p.grad is not None for p in self._idle[key])

    def _first(self) -> Tensor:
        return next(iter(self._parameters.values()))

    def _none(self, reason: str) -> None:
        self.why_none = reason
