"""An epoch of `fit` by a compiled step."""

from __future__ import annotations

from logging import getLogger

import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.batch import Data
from ppl_vae.inference.batches import (
    DataSource,
    LoaderBatches,
    first_examples,
    num_batches,
)
from ppl_vae.inference.compilation.inductor.lowering import can_compile
from ppl_vae.inference.compilation.stepper import Stepper, Tensors
from ppl_vae.inference.compilation.tracing.constants import UntraceableError
from ppl_vae.inference.compilation.tracing.undo import undone
from ppl_vae.inference.saving.interruption import raise_if_stopped
from ppl_vae.inference.steps.step import Step

log = getLogger("ppl_vae.inference")

# To trace a step takes a third of the time of so many steps, or less.
WORTH_TRACING = 3000
# What a compilation may take of the time of the run so far.
SHARE = 0.3


def check_compile(value: object) -> str | bool:
    """Return `value`; raise ValueError unless it is ``"auto"``, True or False."""
    if isinstance(value, bool) or (isinstance(value, str) and value == "auto"):
        return value
    raise ValueError(
        checks.message("compile as 'auto', True or False", repr(value), "Leave it at 'auto'.")
    )


class CompiledEpochs:
    """Decides from which epoch on steps are compiled, and takes them.

    With ``auto`` an epoch is compiled if at its end so many steps are done that compiling one
    takes at most 0.3 of their time, by an estimate from the step's operations, however long the
    run will be: so a run that was stopped and resumed compiles where one that was not stopped
    does, and gives the same numbers. Of a loader without a length the steps are not known, and
    ``auto`` does not compile.

    Data that can be indexed on the device are gathered by the compiled step itself; batches of a
    Dataset or a DataLoader are its arguments.

    Args:
        step: one step of training.
        data: what the batches are made of.
        batch_size: examples a step; a smaller last batch is not compiled.
        how: ``"auto"``, True or False.
    """

    def __init__(self, step: Step, data: DataSource, batch_size: int, *, how: str | bool) -> None:
        self._step, self._data, self._how = step, data, how
        self._loads = getattr(data, "loads", False)
        if isinstance(data, LoaderBatches):
            self._batch_size = len(data.first)
        else:
            self._batch_size = min(batch_size, len(data))
        self._steps = num_batches(data, batch_size)
        self._stepper: Stepper | None = None
        self._examples = 0

    def serves(self, epoch: int) -> bool:
        """Return whether `epoch`, counted from 1, is to be compiled.

        Raises:
            NotImplementedError: it cannot be, and was insisted on.
        """
        if self._how != "auto":
            return bool(self._how) and self._prepare()
        num_steps = epoch * (self._steps or 0)
        if num_steps <= WORTH_TRACING or not can_compile(self._step.pair.device):
            return False
        if not self._prepare():
            return False
        assert self._stepper is not None  # prepared
        return num_steps > self._stepper.steps_to_repay(SHARE)

    def _prepare(self) -> bool:
        """Trace a step unless that is done; return whether it could be.

        Raises:
            NotImplementedError: it cannot be, and was insisted on.
        """
        try:
            if self._step.update.cycles_momentum:
                raise UntraceableError("the schedule changes momentum too (cycle_momentum=True)")
            if self._stepper is None or self._stepper.is_current() is not None:
                self._stepper = self._build()
        except UntraceableError as error:
            self._give_up(error)
        return self._stepper is not None

    def _give_up(self, error: UntraceableError) -> None:
        if self._how is True:
            raise NotImplementedError(
                checks.message(
                    "a pair, estimator and machine whose steps can be compiled",
                    f"one where {error}",
                    "Pass compile='auto' or compile=False.",
                )
            ) from error
        log.warning("not compiled: %s", error)
        self._how, self._stepper = False, None

    def run(self, weights: Tensor | None = None) -> Tensor:
        """Take the steps of one epoch; return the means per example of objective and ELBO.

        Args:
            weights: of the KL divergence, that change from step to step: (steps, their number),
                or one row for all steps.

        Raises:
            NotImplementedError: the compiled step gives other numbers, and was insisted on. With
                ``auto`` what is left of the epoch is taken uncompiled.
        """
        stepper, pair = self._stepper, self._step.pair
        assert stepper is not None  # prepared
        if self._loads:
            return self._run_loaded(weights)
        assert not isinstance(self._data, LoaderBatches)
        order = torch.randperm(len(self._data), device=pair.device)
        size = self._batch_size
        total = torch.zeros((), dtype=torch.float64, device=pair.device)
        whole = len(order) // size
        each_step = self._step.update.each_step
        many = 1 if each_step else min(stepper.unrolled(), whole)
        batches = order[: whole * size].view(whole, size)
        done = 0
        inputs = [batches] if weights is None else [batches, weights]
        while done < whole:
            raise_if_stopped()
            taken = many if done + many <= whole else 1
            losses = self._by_graph([t[done : done + taken] for t in inputs])
            if losses is None:
                taken, row = 1, None if weights is None else weights[done]
                total = total + self._take(self._data.batch(batches[done], dtype=pair.dtype), row)
            else:
                total = total + losses.sum(0) * self._examples
            done += taken
        rest = order[whole * size :]
        if len(rest):
            row = None if weights is None else weights[whole]
            total = total + self._take(self._data.batch(rest, dtype=pair.dtype), row)
        return -total / len(self._data)

    def _by_graph(self, arguments: Tensors) -> Tensor | None:
        """Take a step for each entry of the arguments; return None if it has to be uncompiled."""
        if self._stepper is None:
            return None
        many = len(arguments[0])
        given, options = arguments, {"num_steps": many, "each": True}
        if many == 1:
            given, options = [t[0] for t in arguments], {}
        try:
            losses = self._stepper.step(given, **options)
        except UntraceableError as error:
            self._give_up(error)
            return None
        if many == 1:
            self._step.update.end_step()
        return losses

    def _run_loaded(self, weights: Tensor | None) -> Tensor:
        pair = self._step.pair
        total, count = torch.zeros((), dtype=torch.float64, device=pair.device), 0
        for number, x in enumerate(self._step.batches(self._data, self._batch_size)):
            raise_if_stopped()
            row = [] if weights is None else [weights[min(number, len(weights) - 1)]]
            examples, losses = self._step.num_examples(x), None
            if _shapes(x) == self._shapes and not self._step.is_out:
                self._examples = examples
                losses = self._by_graph([t[None] for t in (*_tensors(x), *row)])
            if losses is None:
                total = total + self._take(x, *row)
            else:
                total = total + losses.sum(0) * examples
            count += examples
        return -total / count

    def _take(self, x: Data, weights: Tensor | None = None) -> Tensor:
        """Take a step of another size; return its loss, summed over the examples."""
        with self._step.autocast():
            loss = self._step.gradient(x, weights)
        self._step.apply()
        return loss * self._step.num_examples(x)

    def _build(self) -> Stepper:
        pair, updater, data = self._step.pair, self._step.update, self._data
        with undone(pair.device):
            first = first_examples(data, self._batch_size, pair)
        self._examples, self._shapes = pair.num_examples(first), _shapes(first)
        watched = [pair.model, pair.guide, self._step.elbo]

        weights = self._step.weights

        def of_batch(*tensors: Tensor) -> Tensor:
            given = iter(tensors)
            x = next(given) if isinstance(first, Tensor) else first.map(lambda _: next(given))
            return self._step.traced(x, next(given, None))

        def of_index(index: Tensor, row: Tensor | None = None) -> Tensor:
            assert not isinstance(data, LoaderBatches)
            return self._step.traced(data.batch(index, dtype=pair.dtype), row)

        def between(losses: Tensor, trained: Tensors, gradients: Tensors) -> Tensor:
            return self._step.with_others(losses, trained, gradients, self._examples)

        # The examples of the first step are not known yet. The others repeat some, in pairs.
        order = torch.arange(self._batch_size, device=pair.device)
        if self._loads:
            program, inputs = of_batch, _tensors(first)
            others = [t[(len(t) - 1 - order // 2).to(t.device)] for t in inputs]
        else:
            assert not isinstance(data, LoaderBatches)
            program, inputs, others = of_index, [order], [len(data) - 1 - order // 2]
            watched.append(data)
        if weights:
            inputs, others = ([*tensors, torch.stack(weights)] for tensors in (inputs, others))
        parameters = [p for p in pair.parameters() if p.requires_grad]
        return Stepper(
            program,
            inputs,
            parameters,
            updater.optimizer,
            watched,
            others=others,
            backend="inductor",
            autocast=self._step.autocast,
            between=None if self._step.share is None else between,
        )


def _tensors(x: Data) -> list[Tensor]:
    return [x] if isinstance(x, Tensor) else x.tensors


def _shapes(x: Data) -> list[torch.Size]:
    return [t.shape for t in _tensors(x)]
