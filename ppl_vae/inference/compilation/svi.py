"""Stochastic variational inference by a compiled step."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from logging import getLogger
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import ELBO, SVI
from pyro.optim import PyroOptim
from torch import Tensor

from ppl_vae import checks
from ppl_vae.elbos.serving import enforced
from ppl_vae.inference.batches import Batches
from ppl_vae.inference.compilation.call import Call
from ppl_vae.inference.compilation.constants import UntraceableError
from ppl_vae.inference.compilation.lowering import BACKENDS
from ppl_vae.inference.compilation.precision import autocast, check_precision
from ppl_vae.inference.compilation.stepper import Stepper
from ppl_vae.inference.deferred import deferred

log = getLogger("ppl_vae.inference")
Function = Callable[..., Any]

# After so many traces for arguments of one shape, something changes all the time.
MAX_TRACES = 4


class CompiledSVI:
    """Pyro's ``SVI`` with a step that is traced once, compiled, and run without Python.

    The first step is Pyro's own. At the second one the whole step, guide, model, estimator,
    derivative and optimiser, is recorded operation by operation, tried against Pyro's loss and
    gradients on other noise, and compiled by Inductor. Under one seed it then sees the same noise
    as ``pyro.infer.SVI`` and takes the same steps, to rounding; the traced operations themselves
    (``backend="eager"``) give bit-identical losses and gradients.

    Model and guide may have plates, subsampling, masks, scales, several latents and particles,
    constrained parameters, modules with buffers; their course must not depend on data, on
    parameters or on draws. Parameters stay the tensors that modules and Pyro's param store hold,
    and the optimiser's state is its own, all changed in place.

    Python values that model and guide refer to (a scale in a closure, train or eval mode) are
    watched: when one changes, or an argument has a new shape or dtype, the step is traced again.
    What cannot be traced is done by Pyro, after one message that says why. Messages go to the
    logger ``ppl_vae.inference``: reasons as warnings, which Python shows; traces as information.

    Args:
        model: a Pyro model.
        guide: its guide.
        optim: a ``pyro.optim`` optimiser; Adam, AdamW, SGD and ClippedAdam, with ``clip_args``
            and schedules, become part of the compiled step, others take their steps themselves.
        loss: any ``pyro.infer.ELBO``, or a function as ``SVI`` takes it.
        backend: ``inductor``, or ``eager`` to run the traced operations one by one.
        precision: ``bf16`` multiplies matrices in bfloat16, where the processor can; the loss
            that this changes is logged.
        cuda_graph: on a GPU, launch a step's kernels as one CUDA graph, where CUDA can record it.

    Attributes:
        is_compiled: whether the last step was done by a graph.
        why_eager: why Pyro does the steps, or None.

    Raises:
        ValueError: an unknown backend or precision, or no bfloat16 here.
        NotImplementedError: at the first step, an estimator that cannot be right for the program.

    Example:
        >>> from pyro.infer import Trace_ELBO
        >>> from pyro.optim import Adam
        >>> from ppl_vae import ExponentialNormal
        >>> pair, optim = ExponentialNormal(), Adam({"lr": 1e-2})
        >>> svi = CompiledSVI(pair.model, pair.guide, optim, Trace_ELBO(), backend="eager")
        >>> x = pair.sample(5, seed=0)
        >>> losses = [svi.step(x) for _ in range(3)]
        >>> svi.is_compiled
        True
    """

    def __init__(
        self,
        model: Function,
        guide: Function,
        optim: PyroOptim,
        loss: ELBO | Function,
        *,
        backend: str = "inductor",
        precision: str | None = None,
        cuda_graph: bool = True,
    ) -> None:
        checks.name("backend", backend, BACKENDS)
        check_precision(precision)
        self.model, self.guide, self.optim, self.loss = model, guide, optim, loss
        self.backend, self.precision, self.cuda_graph = backend, precision, cuda_graph
        self.why_eager: str | None = None
        self.is_compiled = False
        self._svi = SVI(model, guide, optim, loss)
        plain = deferred(loss) if isinstance(loss, ELBO) else None
        self._gradient: Function = getattr(plain, "loss_and_grads", self._svi.loss_and_grads)
        self._parameters: dict[str, Tensor] = {}
        self._steppers: dict[object, Stepper] = {}
        self._traces: dict[object, int] = {}
        self._lock = threading.RLock()

    def step(self, *args: Any, **kwargs: Any) -> float:  # noqa: ANN401
        """Take one step and return the loss before it, in nats.

        Args:
            *args: what model and guide take. Tensors are inputs of the graph; other values are
                written into it, so each new one means a trace: pass what varies as a tensor.
            **kwargs: likewise.
        """
        with self._lock, checks.own_words():
            return float(self._steps([Call(args, kwargs)])[-1])

    def run(self, *args: Any, num_steps: int, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Take steps on the same arguments; return their losses, (num_steps,), in nats.

        Nothing waits for the device in between. Small steps are taken several at a time; their
        noise is drawn together, so it is not that of `step` under the same seed.
        """
        checks.count("num_steps", num_steps)
        with self._lock:
            return self._steps([Call(args, kwargs)] * num_steps)

    def epoch(
        self, data: Batches | Tensor, batch_size: int, *, num_steps: int | None = None
    ) -> Tensor:
        """Take one step for each batch of `data`, in a random order of torch's global stream.

        Gathering the examples, and what ``data.batch`` does to them, is part of the graph. The
        last batch is smaller if need be.

        Args:
            data: a tensor of examples, or data with ``batch(index, dtype=)`` such as `ImageData`.
            batch_size: examples a step.
            num_steps: end after so many steps, the data in a new order as often as needed.

        Returns:
            The losses of the batches, (number of steps,), each summed over its examples.
        """
        checks.count("batch_size", batch_size)
        with self._lock:
            device = data.device if isinstance(data, Tensor) else None
            left = num_steps or -(-len(data) // batch_size)
            losses = []
            while left > 0:
                order = torch.randperm(len(data), device=device)
                batches = order.split(batch_size)[:left]
                calls = [Call(data=data, index=index) for index in batches]
                whole = sum(len(index) == len(batches[0]) for index in batches)
                losses += [self._steps(part) for part in (calls[:whole], calls[whole:]) if part]
                left -= len(batches)
            return torch.cat(losses)

    def evaluate_loss(self, *args: Any, **kwargs: Any) -> float:  # noqa: ANN401
        """Return an estimate of the loss, in nats, by Pyro."""
        loss: Any = self._svi.evaluate_loss(*args, **kwargs)
        return loss

    def _steps(self, calls: Sequence[Call]) -> Tensor:
        """Take one step for each of some calls whose arguments are alike."""
        losses: list[Tensor] = []
        done = 0
        while done < len(calls):
            stepper = self._stepper(calls[done])
            if stepper is None:
                self.is_compiled = False
                losses.append(torch.tensor([self._by_pyro(calls[done])]))
                done += 1
                continue
            same = calls[-1] is calls[done]
            tensors = calls[done].tensors()
            try:
                for size in (stepper.unrolled() if same and done + 1 < len(calls) else 1, 1):
                    while len(calls) - done >= size:
                        tensors = tensors if same else calls[done].tensors()
                        losses.append(stepper.step(tensors, num_steps=size))
                        done += size
            except UntraceableError as error:
                self._give_up(str(error))
                continue
            self.is_compiled = True
        return torch.cat([loss.to(losses[-1].device) for loss in losses])

    def _by_pyro(self, call: Call) -> float:
        args, kwargs = call.given(self._dtype())
        with enforced(self.loss), poutine.trace(param_only=True) as capture:
            loss: Any = self._svi.step(*args, **kwargs)
        sites: Any = capture.trace.nodes
        found = {name: site["value"].unconstrained() for name, site in sites.items()}
        if any(self._parameters.get(name) is not p for name, p in found.items()):
            self._steppers.clear()
        self._parameters = found
        return loss

    def _stepper(self, call: Call) -> Stepper | None:
        """Return what takes the steps, or None if Pyro is to do so."""
        store = pyro.get_param_store()._params
        if self.why_eager is not None or not self._parameters:
            return None
        if any(store.get(name) is not p for name, p in self._parameters.items()):
            return None  # Pyro registers them again, or makes new ones
        if call.strange():
            return self._give_up(f"an argument is of type {call.strange()}")
        kinds = tuple((p.dtype, p.device) for p in self._parameters.values())
        shapes, static = call.signature()
        key = (shapes, static, kinds)
        found = self._steppers.get(key)
        why = None if found is None else found.is_current()
        if found is not None and why is None:
            return found
        self._traces[shapes, kinds] = self._traces.get((shapes, kinds), 0) + 1
        if self._traces[shapes, kinds] > MAX_TRACES:
            return self._give_up("arguments or Python variables change all the time; pass tensors")
        if self._steppers:
            log.info("tracing again: %s", why or "arguments of a new shape, dtype or value")
        return self._build(key, call)

    def _build(self, key: object, call: Call) -> Stepper | None:
        roots = [self.model, self.guide, self.loss]
        parameters = list(self._parameters.values())
        try:
            self._steppers[key] = Stepper(
                call.program(partial(self._gradient, self.model, self.guide), self._dtype()),
                call.tensors(),
                parameters,
                self.optim,
                roots if call.data is None else [*roots, call.data],
                backend=self.backend,
                cuda_graph=self.cuda_graph,
                autocast=autocast(self.precision, parameters[0].device),
            )
        except UntraceableError as error:
            return self._give_up(str(error))
        return self._steppers[key]

    def _dtype(self) -> torch.dtype:
        first = next(iter(self._parameters.values()), None)
        return torch.get_default_dtype() if first is None else first.dtype

    def _give_up(self, reason: str) -> None:
        self.why_eager = reason
        log.warning("not compiled, Pyro does the steps: %s", reason)
