"""An epoch of `fit` by a compiled step."""

from __future__ import annotations

from logging import getLogger

import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.inference.batches import Batches
from ppl_vae.inference.compilation.inductor.lowering import can_compile
from ppl_vae.inference.compilation.stepper import Stepper
from ppl_vae.inference.compilation.tracing.constants import UntraceableError
from ppl_vae.inference.compilation.tracing.undo import undone
from ppl_vae.inference.step import Step

log = getLogger("ppl_vae.inference")

# To trace a step takes a third of the time of so many steps, or less.
WORTH_TRACING = 3000
# What a compilation may take of the time of the run so far.
SHARE = 0.3


def check_compile(value: object) -> str | bool:
    """Return `value`; raise ValueError unless it is ``"auto"``, True or False."""
    if isinstance(value, bool) or value == "auto":
        return value  # pyright: ignore[reportReturnType]
    raise ValueError(
        checks.message("compile as 'auto', True or False", repr(value), "Leave it at 'auto'.")
    )


class CompiledEpochs:
    """Decides from which epoch on steps are compiled, and takes them.

    With ``auto`` an epoch is compiled if at its end so many steps are done that compiling one
    takes at most 0.3 of their time, by an estimate from the step's operations, however long the
    run will be: so a run that was stopped and resumed compiles where one that was not stopped
    does, and gives the same numbers.

    Args:
        step: one step of training.
        data: what the batches are made of.
        batch_size: examples a step; a smaller last batch is not compiled.
        how: ``"auto"``, True or False.
    """

    def __init__(self, step: Step, data: Batches, batch_size: int, *, how: str | bool) -> None:
        self._step, self._data, self._how = step, data, how
        self._batch_size = min(batch_size, len(data))
        self._stepper: Stepper | None = None
        self._examples = 0

    def serves(self, epoch: int) -> bool:
        """Return whether `epoch`, counted from 1, is to be compiled.

        Raises:
            NotImplementedError: it cannot be, and was insisted on.
        """
        if self._how != "auto":
            return bool(self._how) and self._prepare()
        num_steps = epoch * -(-len(self._data) // self._batch_size)
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
            if self._stepper is None or self._stepper.is_current() is not None:
                self._stepper = self._build()
        except UntraceableError as error:
            if self._how is True:
                raise NotImplementedError(
                    checks.message(
                        "a pair, estimator and machine whose steps can be compiled",
                        f"one where {error}",
                        "Pass compile='auto' or compile=False.",
                    )
                ) from error
            log.warning("not compiled: %s", error)
            self._how = False
            return False
        return True

    def run(self) -> float:
        """Take the steps of one epoch; return the mean ELBO per example."""
        stepper, pair = self._stepper, self._step.pair
        assert stepper is not None  # prepared
        order = torch.randperm(len(self._data), device=pair.device)
        size = self._batch_size
        total = torch.zeros((), dtype=torch.float64, device=pair.device)
        whole = len(order) // size
        many = min(stepper.unrolled(), whole)
        batches = order[: whole * size].view(whole, size)
        done = 0
        while done < whole:
            if done + many <= whole and many > 1:
                losses = stepper.step([batches[done : done + many]], num_steps=many, each=True)
                done += many
            else:
                losses = stepper.step([batches[done]])
                done += 1
            total += losses.sum() * self._examples
        rest = order[whole * size :]
        if len(rest):
            x = self._data.batch(rest, dtype=pair.dtype)
            loss = self._step.gradient(x)
            self._step.apply()
            total += loss * pair.num_examples(x)
        return -float(total) / len(self._data)

    def _build(self) -> Stepper:
        pair, updater = self._step.pair, self._step.update
        index = torch.arange(self._batch_size, device=pair.device)
        self._examples = self._count(index)

        def program(index: Tensor) -> Tensor:
            return self._step.gradient(self._data.batch(index, dtype=pair.dtype))

        parameters = [p for p in pair.parameters() if p.requires_grad]
        return Stepper(
            program,
            [index],
            parameters,
            updater.optimizer,
            [pair.model, pair.guide, self._step.elbo, self._data],
            backend="inductor",
        )

    def _count(self, index: Tensor) -> int:
        with undone(index.device):
            x = self._data.batch(index, dtype=self._step.pair.dtype)
        return self._step.pair.num_examples(x)
