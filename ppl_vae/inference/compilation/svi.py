"""Stochastic variational inference by a compiled step."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from logging import getLogger
from typing import Any

import torch
from pyro import poutine
from pyro.infer import ELBO, SVI
from pyro.optim import PyroOptim
from torch import Tensor
from torch.optim import LBFGS

from ppl_vae import checks
from ppl_vae.batch import Batch, BatchLike, as_batch
from ppl_vae.elbos.serving import enforced
from ppl_vae.inference.batches import Batches
from ppl_vae.inference.compilation.arguments.call import Call
from ppl_vae.inference.compilation.graphs import Graphs
from ppl_vae.inference.compilation.inductor.lowering import BACKENDS
from ppl_vae.inference.compilation.inductor.precision import check_precision
from ppl_vae.inference.compilation.tracing.constants import UntraceableError

log = getLogger("ppl_vae.inference")

Function = Callable[..., Any]


class CompiledSVI(SVI):
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

    A step of more than 400 operations is run one operation at a time, without Python's part of
    the work, until its compilation would be repaid.

    Python values that model and guide refer to (a scale in a closure, train or eval mode) are
    watched: when one changes, or an argument has a new shape or dtype, the step is traced again.
    A number that is passed as an argument becomes an input of the graph when it has a second
    value; for other values there are up to eight graphs. What cannot be traced is done by Pyro,
    after one message that says why. Messages go to the logger ``ppl_vae.inference``: reasons as
    warnings, which Python shows; traces as information.

    Args:
        model: a Pyro model.
        guide: its guide.
        optim: a ``pyro.optim`` optimiser; Adam, AdamW, SGD and ClippedAdam, with ``clip_args``
            and schedules, become part of the compiled step, others take their steps themselves.
        loss: any ``pyro.infer.ELBO``, or a function as ``SVI`` takes it.
        loss_and_grads: likewise; `loss_and_grads` and `evaluate_loss` are Pyro's own.
        num_samples: as in ``SVI`` (deprecated there).
        num_steps: likewise.
        backend: ``inductor``, or ``eager`` to run the traced operations one by one.
        precision: ``bf16`` multiplies matrices in bfloat16; by how much this changes the loss
            is logged, and so is a processor without bfloat16, which is slower for it.
        cuda_graph: on a GPU, launch a step's kernels as one CUDA graph, where CUDA can record it.
        **kwargs: as in ``SVI``.

    Raises:
        ValueError: an unknown backend or precision, or a GPU without bfloat16.
        NotImplementedError: LBFGS, whose steps need the loss more than once; at the first step,
            an estimator that cannot be right for the program.

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
        loss_and_grads: Function | None = None,
        num_samples: int = 0,
        num_steps: int = 0,
        *,
        backend: str = "inductor",
        precision: str | None = None,
        cuda_graph: bool = True,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        checks.name("backend", backend, BACKENDS)
        check_precision(precision)
        _check_optimizer(optim)
        super().__init__(
            model, guide, optim, loss, loss_and_grads, num_samples, num_steps, **kwargs
        )
        self._elbo = loss
        self._graphs = Graphs(
            self, loss, backend=backend, precision=precision, cuda_graph=cuda_graph
        )
        self._lock = threading.RLock()
        self._told: set[str] = set()

    @property
    def why_eager(self) -> str | None:
        """Why Pyro did the last step, or None where a graph did."""
        return self._graphs.why_none

    @property
    def is_compiled(self) -> bool:
        """Whether the last step was done by a graph."""
        return self.why_eager is None

    def step(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Take one step and return the loss before it, in nats, as ``SVI`` does.

        Args:
            *args: what model and guide take. Tensors are inputs of the graph, and so are numbers
                from their second value on, also within a ``functools.partial``. Functions and
                objects are watched, as what a program refers to is. Every new one of these, new
                value of anything else, and of a number on which the program's course depends,
                means a graph of its own. Arrays, sets and iterators are left to Pyro.
            **kwargs: likewise.
        """
        with self._lock, checks.own_words():
            loss = self._steps([Call(args, kwargs)])[-1]
            return float(loss) if loss.dim() == 0 else tuple(loss.tolist())

    def run(self, *args: Any, num_steps: int | None = None, **kwargs: Any) -> Any:  # noqa: ANN401
        """Take steps on the same arguments; return their losses, (num_steps,), in nats.

        Nothing waits for the device in between. Small steps are taken several at a time; their
        noise is drawn together, so it is not that of `step` under the same seed. Without
        `num_steps` this is Pyro's deprecated ``SVI.run``.
        """
        if num_steps is None:
            return super().run(*args, **kwargs)
        checks.count("num_steps", num_steps)
        with self._lock:
            return self._steps([Call(args, kwargs)] * num_steps)

    def epoch(
        self, data: Batches | BatchLike, batch_size: int, *, num_steps: int | None = None
    ) -> Tensor:
        """Take one step for each batch of `data`, in a random order of torch's global stream.

        Gathering the examples, and what ``data.batch`` does to them, is part of the graph. The
        last batch is smaller if need be.

        Args:
            data: a tensor of examples, a tuple or mapping of the program's arguments, or data
                with ``batch(index, dtype=)`` such as `ImageData`.
            batch_size: examples a step.
            num_steps: end after so many steps, the data in a new order as often as needed.

        Returns:
            The losses of the batches, (number of steps,), each summed over its examples.
        """
        checks.count("batch_size", batch_size)
        data = data if isinstance(data, Batches) else as_batch(data)
        with self._lock:
            device = data.device if isinstance(data, (Tensor, Batch)) else None
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

    def _steps(self, calls: Sequence[Call]) -> Tensor:
        """Take one step for each of some calls whose arguments are alike."""
        losses: list[Tensor] = []
        done = 0
        while done < len(calls):
            stepper = self._graphs.stepper(calls[done])
            if stepper is None:
                losses.append(torch.tensor([self._by_pyro(calls[done])]))
                done += 1
                continue
            same = calls[-1] is calls[done]
            tensors = self._graphs.tensors(calls[done])
            try:
                for size in (stepper.unrolled() if same and done + 1 < len(calls) else 1, 1):
                    while len(calls) - done >= size:
                        tensors = tensors if same else self._graphs.tensors(calls[done])
                        losses.append(stepper.step(tensors, num_steps=size))
                        done += size
            except UntraceableError as error:
                self._graphs.give_up(str(error))
        return torch.cat([loss.to(losses[-1].device) for loss in losses])

    def _by_pyro(self, call: Call) -> Any:  # noqa: ANN401
        args, kwargs = call.given(self._graphs.dtype)
        with enforced(self._elbo, tell=self._warn_once), poutine.trace(param_only=True) as capture:
            loss = super().step(*args, **kwargs)
        self._graphs.keep_parameters(capture.trace.nodes)
        return loss

    def _warn_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            log.warning(text)


def _check_optimizer(optim: Any) -> None:  # noqa: ANN401
    made = getattr(optim, "pt_optim_constructor", None)
    if isinstance(made, type) and issubclass(made, LBFGS):
        raise NotImplementedError(
            checks.message(
                "an optimiser that takes a step from one gradient",
                "LBFGS, which calls the loss itself, with other noise each time",
                "Choose pyro.optim.Adam, or call torch.optim.LBFGS with a closure of your own.",
            )
        )
