"""Steps of training by a traced, tried and compiled graph, or else by the program itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from logging import getLogger

import pyro
import torch
from pyro.optim import PyroOptim
from torch import Tensor
from torch.optim import Optimizer

from ppl_vae.inference.compilation import cost
from ppl_vae.inference.compilation.agreement import CLOSE, NEAR, alike
from ppl_vae.inference.compilation.chunk import Chunk
from ppl_vae.inference.compilation.optimizers.update_graph import Updates
from ppl_vae.inference.compilation.optimizers.updates import slots, step_alone
from ppl_vae.inference.compilation.sharing import share_memory
from ppl_vae.inference.compilation.tracing.constants import UntraceableError
from ppl_vae.inference.compilation.tracing.graph import Graph, trace
from ppl_vae.inference.compilation.tracing.noise import is_random
from ppl_vae.inference.compilation.tracing.recording import TRACING
from ppl_vae.inference.compilation.tracing.undo import undone
from ppl_vae.inference.compilation.trials import Trials, same

log = getLogger("ppl_vae.inference")
Tensors = Sequence[Tensor]
Program = Callable[..., Tensor]

_SEEDS = (1, 2)
# Larger steps are not compiled before that is repaid: it takes half a minute and more.
_COMPILED_AT_ONCE = 400


class Stepper:
    """Takes steps for arguments of one signature.

    Built once for a shape and dtype: the program is run twice as it is and once more to be
    traced; the graph must give the same losses and gradients on other noise than it was traced
    on, and the compiled graph what the graph gives. Parameters, buffers and random streams are
    afterwards as before.

    Args:
        program: takes tensors, leaves gradients in the parameters, returns the loss.
        arguments: example tensors.
        parameters: what is trained.
        optimizer: who changes them.
        roots: the objects whose Python state the graph holds.
        trials: programs that the graph must match, each with its arguments; none is `program`.
        others: arguments of other examples, on which a first run must fill in the same.
        probe: the program once more, to raise if arguments are used as no graph can follow.
        backend: ``inductor`` or ``eager``.
        cuda_graph: whether the compiled step's kernels are launched as one, on a GPU.
        patient: whether a large graph's operations are run one by one until its compilation is
            repaid.
        autocast: makes the context of the traced run, for lower precision.
        between: what is to be done to losses, parameters and gradients, in place, before the
            optimiser's step, which then is no part of the graph; it returns the losses.

    Raises:
        UntraceableError: the program cannot be traced, or the graph does not do as it does.
    """

    def __init__(
        self,
        program: Program,
        arguments: Tensors,
        parameters: Tensors,
        optimizer: PyroOptim | Optimizer,
        roots: Sequence[object],
        *,
        trials: Sequence[tuple[Callable[[], Tensor], Tensors]] = (),
        others: Tensors | None = None,
        probe: Callable[[], Tensor] | None = None,
        backend: str,
        cuda_graph: bool = True,
        patient: bool = False,
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
        between: Callable[[Tensor, Tensors, Tensors], Tensor] | None = None,
    ) -> None:
        self._between = between
        self._program, self._probe, self._autocast = program, probe, autocast
        self.parameters = list(parameters)
        self._optimizer, self._backend, self._cuda_graph = optimizer, backend, cuda_graph
        self._pointers = [p.data_ptr() for p in self.parameters]
        with TRACING, pyro.validation_enabled(False):  # noqa: FBT003
            own = (lambda: self._program(*arguments), arguments)
            other = None if others is None else lambda: self._program(*others)
            graph = self._try(arguments, list(trials or [own]), roots, other)
        self.trained = [p for p, g in zip(self.parameters, self._reached, strict=True) if g]
        self.graph: Graph = graph
        if share_memory(self.trained, [*parameters, *graph.captured]):
            raise UntraceableError("a parameter shares its memory with another tensor")
        self._chunks: dict[tuple[int, bool, bool], Chunk] = {}
        self._bind()
        self._num_steps = self._num_uncompiled = 0
        updated = len(self.trained) if self.updates else 0
        if patient and cost.num_operations(graph.module, updated) > _COMPILED_AT_ONCE:
            self._num_uncompiled = cost.steps_to_repay(graph.module, share=1.0, traced=True)

    def _bind(self) -> None:
        found = None if self._between else slots(self._optimizer, self.trained)
        whole = found is not None and len(found) == len(self.trained)
        self.updates = Updates(found) if found and whole else None

    def is_current(self) -> str | None:
        """Return why the graph no longer stands for the program, or None."""
        name = self.watch.changed(by_a_run=False)
        if name is not None:
            return f"{name} has changed"
        if not all(kept.is_current() for kept in self.graph.kept):
            return "a tensor that the program reads in Python has changed"
        if [p.data_ptr() for p in self.parameters] != self._pointers:
            return "parameters have moved"
        if self.updates is not None and not self.updates.is_current():
            self._chunks.clear()
            self._bind()
        return None

    def unrolled(self) -> int:
        """Return how many steps to take in one call: more than one if they are tiny."""
        nodes = cost.operations(self.graph.module)
        if self.updates is None or any(map(is_random, nodes)):
            return 1
        return cost.steps_at_once(nodes)

    def steps_to_repay(self, share: float) -> int:
        """Return after how many of the program's steps compiling takes a share of the time."""
        return cost.steps_to_repay(self.graph.module, share=share, traced=False)

    def step(self, arguments: Tensors, *, num_steps: int = 1, each: bool = False) -> Tensor:
        """Take steps; return their losses, (num_steps,)."""
        compiled = self._backend == "inductor" and self._num_steps >= self._num_uncompiled
        self._num_steps += num_steps
        key = (num_steps, each, compiled)
        if key not in self._chunks:
            self._chunks[key] = self._chunk(arguments, num_steps, each=each, compiled=compiled)
        losses, *gradients = self._chunks[key](arguments)
        if self._between is not None:
            losses = self._between(losses, self.trained, gradients)
        if self.updates is None:
            step_alone(self._optimizer, self.parameters, self.trained, gradients)
        return losses

    def _chunk(self, arguments: Tensors, num_steps: int, *, each: bool, compiled: bool) -> Chunk:
        chunk = Chunk(self.graph, self.trained, self.updates, num_steps=num_steps, each=each)
        if compiled:
            name = f"{num_steps} steps" if num_steps > 1 else "a step"
            chunk.compile(arguments, name=name, capture=self._cuda_graph)
            self._compare(chunk, arguments)
        return chunk

    def _compare(self, chunk: Chunk, arguments: Tensors) -> None:
        """See that the compiled steps do what the operations one by one do."""
        device, outcomes = self.parameters[0].device, []
        for compiled in (False, True):
            old = chunk.snapshot()
            with undone(device):
                torch.manual_seed(_SEEDS[0])
                results = chunk.execute(arguments, compiled=compiled)
                # Copies: a compiled product is written into memory that is put back too.
                outcomes.append([*(t.clone() for t in results), *chunk.snapshot()])
            chunk.put_back(old)
        tolerances = CLOSE if self._autocast is nullcontext else NEAR
        for first, second in zip(*outcomes, strict=True):
            if not alike(first, second, tolerances):
                raise UntraceableError("compiled, it gives other numbers than uncompiled")

    def _try(
        self,
        arguments: Tensors,
        trials: Sequence[tuple[Callable[[], Tensor], Tensors]],
        roots: Sequence[object],
        other: Callable[[], Tensor] | None,
    ) -> Graph:
        """Trace the program; raise unless the graph gives its losses and gradients."""
        old, runs = [(p, p.grad) for p in self.parameters], None
        try:
            run = trials[0][0]
            runs = Trials(run, self.parameters, roots, _SEEDS[0], self._autocast, other)
            self.watch = runs.watch
            if self._probe is not None:
                runs.run(_SEEDS[0], partial(runs.gradients, self._probe, self._autocast))
            trials = [trials[0], trials[-1]]
            second = partial(runs.gradients, trials[1][0], self._autocast)
            expected = [runs.first, runs.run(_SEEDS[1], second)]
            self._reached = [g is not None for g in expected[0][1:]]
            if self._autocast is not nullcontext:
                self._tell_precision(runs, trials[0][0], expected[0][0])
            graph = runs.run(3, lambda: self._trace(runs, arguments))
            given = [p for p, g in zip(self.parameters, self._reached, strict=True) if g]
            for seed, outcome, (_, like) in zip(_SEEDS, expected, trials, strict=True):
                found = runs.run(seed, lambda like=like: graph(*like, *given))
                if not same(found, [t for t in outcome if t is not None]):
                    raise UntraceableError(
                        "its losses or gradients are not a function of its arguments, its "
                        "parameters and torch's random draws alone"
                    )
        except BaseException:
            if runs is not None:
                runs.restore()
            raise
        finally:
            for parameter, gradient in old:
                parameter.grad = gradient
        return graph

    def _tell_precision(self, trials: Trials, run: Callable[[], Tensor], loss: Tensor) -> None:
        """Log by how much lower precision changes the loss."""
        full = trials.run(_SEEDS[0], lambda: trials.gradients(run, nullcontext))[0]
        share = float((loss - full) / full.abs())
        log.info("bfloat16 changes the loss from %.6g by %.2g of it", float(full), share)

    def _trace(self, runs: Trials, arguments: Tensors) -> Graph:
        given = [p for p, g in zip(self.parameters, self._reached, strict=True) if g]

        def function(*_: Tensor) -> list[Tensor]:
            run = runs.gradients(lambda: self._program(*arguments), self._autocast)
            return [t for t in run if t is not None]

        return trace(function, [*arguments, *given])
