"""The steps of a training run, epoch by epoch."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence

import pyro
import torch
from torch import Tensor

from ppl_vae.batch import Data
from ppl_vae.inference.batches import DataSource
from ppl_vae.inference.compilation.epoch import CompiledEpochs
from ppl_vae.inference.loaders import LoaderBatches
from ppl_vae.inference.monitoring.history import History
from ppl_vae.inference.monitoring.monitor import Monitor
from ppl_vae.inference.processes.group import Alone, Group
from ppl_vae.inference.processes.sameness import require_no_drift
from ppl_vae.inference.rules import Log
from ppl_vae.inference.saving.interruption import raise_if_stopped
from ppl_vae.inference.saving.run_folder import RunFolder
from ppl_vae.inference.steps.failure import NonFiniteLossError, first_bad_site
from ppl_vae.inference.steps.objective import Objective
from ppl_vae.inference.steps.step import Step
from ppl_vae.seeding import derive, seeded, set_streams, streams


class Epochs:
    """Takes the steps of an epoch, compiled or one by one.

    Args:
        step: one step.
        data: what the batches are made of.
        batch_size: examples a step.
        fast: decides which epochs are compiled, and takes their steps.
        skips: whether a step whose loss or gradient is not finite is left out and counted, or is
            an error.

    Attributes:
        skipped: steps left out in the last epoch.
    """

    def __init__(
        self, step: Step, data: DataSource, batch_size: int, fast: CompiledEpochs, *, skips: bool
    ) -> None:
        self.step, self.data, self._batch_size = step, data, batch_size
        self._fast, self.skips = fast, skips
        self.skipped = 0

    def run(self, epoch: int, weights: Tensor | None) -> tuple[float, float]:
        """Take the steps of one epoch; return the means per example of objective and ELBO.

        Compiled, or on a GPU, the losses are read once, at the end. If one of them is not finite
        the epoch is run again from where it began, with a look at every loss, to find the first
        one and its site. On a CPU a look costs nothing.

        Args:
            epoch: its number, from 1.
            weights: of the KL divergence, that change from step to step: (steps, their number).
        """
        pair, update = self.step.pair, self.step.update
        compiled = not self.skips and self._fast.serves(epoch)
        if self.skips or (pair.device.type == "cpu" and not compiled):
            return self._one_by_one(epoch, weights, look=True)
        parameters = copy.deepcopy(pair.state_dict())
        optimizer = copy.deepcopy(update.state())
        states = streams(pair.device)
        if compiled:
            with pyro.validation_enabled(False):  # noqa: FBT003
                means = _both(self._fast.run(weights))
        else:
            means = self._one_by_one(epoch, weights, look=False)
        if all(map(math.isfinite, means)):
            return means
        pair.load_state_dict(parameters)
        update.restore(optimizer)
        set_streams(states, pair.device)
        return self._one_by_one(epoch, weights, look=True)

    def _one_by_one(
        self, epoch: int, weights: Tensor | None, *, look: bool
    ) -> tuple[float, float]:
        step, pair = self.step, self.step.pair
        self.skipped = count = 0
        total = torch.zeros((), dtype=torch.float64, device=pair.device)
        bad: NonFiniteLossError | None = None
        with pyro.validation_enabled(False):  # noqa: FBT003
            batches = step.batches(self.data, self._batch_size)
            for number, x in enumerate(batches, start=1):
                raise_if_stopped()
                states = streams(pair.device) if look else []
                buffers = [b.clone() for b in pair.buffers()] if self.skips else []
                with step.autocast():
                    loss = step.gradient(x, _row(weights, number))
                fine = not look or step.is_finite(loss, gradients=self.skips)
                if not fine and (bad is None or not self.skips):
                    site, why = self._bad_site(x, states)
                    place = {"epoch": epoch, "step": number, "site": site, "why": why}
                    bad = NonFiniteLossError(float(loss.flatten()[0]), **place)
                if bad is not None and not self.skips:
                    raise bad
                if not fine:
                    self.skipped += 1
                    for buffer, old in zip(pair.buffers(), buffers, strict=True):
                        buffer.copy_(old)
                    continue
                step.apply()
                total = total + loss.double() * step.num_examples(x)
                count += step.num_examples(x)
        if bad is not None and count == 0:
            raise bad
        return _both(-total / count)

    def _bad_site(self, x: Data, states: list[Tensor]) -> tuple[str | None, str]:
        """Return the first site that is not finite in a step that began from `states`."""
        pair, share = self.step.pair, self.step.share
        after = streams(pair.device)
        set_streams(states, pair.device)
        if share is None:
            return first_bad_site(pair, x)
        # Of the rows of this process; as it draws for no others, the streams go back after it.
        found = share.group.all(first_bad_site(pair, share.of(x)[0]))
        set_streams(after, pair.device)
        return next((each for each in found if each[0] is not None), found[0])


class TrainingRun:
    """A run: epochs, what is measured after each, and what is kept.

    Args:
        epochs: takes an epoch's steps.
        objective: with the weights of each step.
        monitor: measures and judges.
        folder: where the state is kept, or None.
        told: called with each epoch and its numbers, in the process that writes.
        seed: of the run.
        group: the processes that train.
    """

    def __init__(
        self,
        epochs: Epochs,
        objective: Objective,
        monitor: Monitor,
        folder: RunFolder | None,
        told: Sequence[Log],
        seed: int,
        group: Alone,
    ) -> None:
        self._epochs, self._objective, self._monitor = epochs, objective, monitor
        self._folder, self._told, self._seed = folder, told, seed
        self._group = group

    def train(self, history: History, num_epochs: int) -> None:
        """Go on with the history's run up to `num_epochs` in all, or until it is stopped."""
        for epoch in range(len(history) + 1, num_epochs + 1):
            if self._monitor.should_stop:
                break
            self._take(epoch, history)
            self._group.first(lambda epoch=epoch: self._keep(epoch, history))
        self._monitor.finish()

    def _take(self, epoch: int, history: History) -> None:
        step, data = self._epochs.step, self._epochs.data
        pair, updater = step.pair, step.update
        began = time.perf_counter()
        if isinstance(data, LoaderBatches):
            data.begin_epoch(epoch)
        apart = step.share is not None and step.share.apart
        own = [self._group.rank] if apart else []  # examples of its own, and noise
        with seeded(derive(self._seed, "epoch", epoch, *own), pair.device):
            objective, elbo = self._epochs.run(epoch, self._objective.of_epoch(epoch))
        if isinstance(self._group, Group):
            require_no_drift(self._group, pair, epoch)
        history.objective.append(objective)
        history.train_elbo.append(elbo)
        history.seconds.append(time.perf_counter() - began)
        numbers = {"learning_rate": updater.learning_rate, **self._objective.current()}
        if self._epochs.skips:
            numbers["skipped"] = self._epochs.skipped
        self._monitor.look(epoch, history, numbers)
        updater.end_epoch((history.test_elbo or history.train_elbo)[-1])

    def _keep(self, epoch: int, history: History) -> None:
        """Write what is to be kept of an epoch."""
        step = self._epochs.step
        if self._folder is not None:
            self._folder.save(
                step.pair,
                step.update,
                history,
                self._epochs.data,
                self._monitor.state(),
                is_kept=self._monitor.keeps_this,
            )
        for tell in self._told:
            tell(epoch, history.last())


def _row(weights: Tensor | None, number: int) -> Tensor | None:
    """Return the weights of a step, counted from 1; one row is for all."""
    return None if weights is None else weights[min(number, len(weights)) - 1]


def _both(means: Tensor) -> tuple[float, float]:
    """Return objective and ELBO, which are one number without weights."""
    numbers = means.flatten().tolist()
    return numbers[0], numbers[-1]
