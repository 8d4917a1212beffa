"""One step of stochastic variational inference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from pyro.infer import ELBO
from torch import Tensor, nn

from ppl_vae.batch import Data
from ppl_vae.elbos import WeightedELBO
from ppl_vae.inference.batches import DataSource, shuffled
from ppl_vae.inference.processes.share import Share
from ppl_vae.inference.steps.deferred import deferred
from ppl_vae.inference.steps.optimizers import Updater
from ppl_vae.pair import Pair


class Step:
    """Loss and gradient per example, then the optimiser's update.

    The gradient is divided by the number of examples, so a learning rate means the same at every
    batch size. Nothing waits for the device.

    Args:
        pair: what is trained.
        elbo: the estimator.
        update: takes the parameters that have a gradient and changes them.
        clip_norm: the gradient's greatest length, over all parameters; None leaves it.
        num_parts: in how many parts, one after the other, a batch's gradient is summed.
        autocast: makes the context in which gradients are to be computed.
        weights: 0-dimensional tensors in `elbo` that change from step to step.

    Attributes:
        autocast: as given.
        weights: as given.
        share: what part of a batch this process takes; None if it is alone. A batch is the whole
            one for all that call a step.
    """

    def __init__(
        self,
        pair: Pair,
        elbo: ELBO,
        update: Updater,
        *,
        clip_norm: float | None = None,
        num_parts: int = 1,
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
        weights: Sequence[Tensor] = (),
    ) -> None:
        self.pair = pair
        self.update = update
        # Pyro's ELBO does not declare loss_and_grads, though each of its classes has it.
        self.elbo: Any = deferred(elbo)
        self._clip_norm, self._num_parts, self.autocast = clip_norm, num_parts, autocast
        self.weights = list(weights)
        self.share: Share | None = None
        self._parameters = [p for p in pair.parameters() if p.requires_grad]

    def gradient(self, x: Data, weights: Tensor | None = None) -> Tensor:
        """Put the gradient at `x` into the parameters' ``grad``; return the loss per example.

        The loss is the negative objective; the gradient is that of the pair's auxiliary loss too.
        Several processes have the same one, each from its part of the examples.

        Args:
            x: a batch.
            weights: the step's values of those that change, (their number,).

        Returns:
            A scalar; where the objective is not the ELBO, (2,): of the objective, of the ELBO.
        """
        return self._per_example(self._own_gradient(x, weights), self.num_examples(x))

    @property
    def is_out(self) -> bool:
        """Whether this process has no more data of its own, while others go on."""
        return self.share is not None and self.share.is_out

    @property
    def traced(self) -> Callable[..., Tensor]:
        """What one graph can hold of `gradient`: without what other processes add to it."""
        return self.gradient if self.share is None else self._own_gradient

    def with_others(
        self, losses: Tensor, parameters: Sequence[Tensor], gradients: Sequence[Tensor], count: int
    ) -> Tensor:
        """Do, in place, to what a graph of `traced` gave what is left of `gradient`.

        Args:
            losses: of one step, with a first dimension of 1.
            parameters: that have a gradient.
            gradients: theirs.
            count: examples of the batch.
        """
        for parameter in self._parameters:
            parameter.grad = None
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        return self._per_example(losses, count)

    def batches(self, data: DataSource, batch_size: int) -> Iterator[Data]:
        """Yield an epoch's batches, in a random order of torch's global stream, or as loaded."""
        if self.share is None:
            return shuffled(data, batch_size, self.pair)
        return self.share.each(shuffled(data, batch_size, self.pair, self.share.loaded))

    def num_examples(self, x: Data) -> int:
        """Return how many examples the batch has, in all processes together."""
        return self.pair.num_examples(x) if self.share is None else self.share.num_examples(x)

    def _own_gradient(self, x: Data, weights: Tensor | None = None) -> Tensor:
        for parameter in self._parameters:
            parameter.grad = None
        if weights is not None:
            for held, weight in zip(self.weights, weights.unbind(), strict=True):
                held.copy_(weight)
        return self.loss_and_gradient(x)

    def _per_example(self, loss: Tensor, count: int) -> Tensor:
        if self.share is not None:
            loss = loss.detach().clone()
            # Every process sums the same tensors, also those that its part has no gradient for.
            filled = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters]
            self.share.group.add([loss, *filled])
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if count > 1:
            torch._foreach_mul_(gradients, 1 / count)  # pyright: ignore[reportPrivateImportUsage]
        if self._clip_norm is not None:
            nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)
        return loss / count

    def apply(self) -> None:
        """Change the parameters by the gradient that is there."""
        self.update([p for p in self._parameters if p.grad is not None])
        self.update.end_step()

    def is_finite(self, loss: Tensor, *, gradients: bool) -> bool:
        """Return whether the loss is, and every gradient if asked; this waits for the device."""
        held = [p.grad for p in self._parameters if p.grad is not None] if gradients else []
        return all(bool(t.isfinite().all()) for t in (loss, *held))

    def loss_and_gradient(self, x: Data) -> Tensor:
        """Add the gradient of a batch, part after part; return its loss, summed over examples."""
        if self._num_parts == 1:
            return self._loss_of(x)
        size = -(-len(x) // self._num_parts)
        return sum(
            (self._loss_of(x[start : start + size]) for start in range(size, len(x), size)),
            self._loss_of(x[:size]),
        )

    def _loss_of(self, x: Data) -> Tensor:
        if self.share is None:
            return self.loss_of_own(x)
        own, noise, is_lent = self.share.of(x)
        with noise:
            return self._lent(own) if is_lent else self.loss_of_own(own)

    def _lent(self, x: Data) -> Tensor:
        """Draw what others draw, for examples that are theirs; add nothing to the gradient."""
        before = [p.grad for p in self._parameters]
        for parameter in self._parameters:
            parameter.grad = None
        loss = self.loss_of_own(x)
        for parameter, old in zip(self._parameters, before, strict=True):
            if parameter.grad is not None:
                parameter.grad = torch.zeros_like(parameter) if old is None else old
            else:
                parameter.grad = old
        return torch.zeros_like(loss)

    def loss_of_own(self, x: Data) -> Tensor:
        """Add the gradient of examples that this process has; return their loss, summed."""
        model, guide = self.pair.model, self.pair.guide
        if isinstance(self.elbo, WeightedELBO):
            losses = self.elbo.losses_and_grads(model, guide, x)
            loss = torch.stack([torch.as_tensor(each) for each in losses])
        else:
            loss = torch.as_tensor(self.elbo.loss_and_grads(model, guide, x))
        auxiliary = self.pair.auxiliary_loss(x)
        if auxiliary is not None:
            auxiliary.backward()
        return loss
