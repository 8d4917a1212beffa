"""One step of stochastic variational inference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from pyro.infer import ELBO
from torch import Tensor, nn

from ppl_vae.batch import Data
from ppl_vae.elbos import WeightedELBO
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
        self._parameters = [p for p in pair.parameters() if p.requires_grad]

    def gradient(self, x: Data, weights: Tensor | None = None) -> Tensor:
        """Put the gradient at `x` into the parameters' ``grad``; return the loss per example.

        The loss is the negative objective; the gradient is that of the pair's auxiliary loss too.

        Args:
            x: a batch.
            weights: the step's values of those that change, (their number,).

        Returns:
            A scalar; where the objective is not the ELBO, (2,): of the objective, of the ELBO.
        """
        for parameter in self._parameters:
            parameter.grad = None
        if weights is not None:
            for held, weight in zip(self.weights, weights.unbind(), strict=True):
                held.copy_(weight)
        num_examples = self.pair.num_examples(x)
        loss = self._loss(x)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if num_examples > 1:
            torch._foreach_mul_(gradients, 1 / num_examples)  # pyright: ignore[reportPrivateImportUsage]
        if self._clip_norm is not None:
            nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)
        return loss / num_examples

    def apply(self) -> None:
        """Change the parameters by the gradient that is there."""
        self.update([p for p in self._parameters if p.grad is not None])
        self.update.end_step()

    def is_finite(self, loss: Tensor, *, gradients: bool) -> bool:
        """Return whether the loss is, and every gradient if asked; this waits for the device."""
        held = [p.grad for p in self._parameters if p.grad is not None] if gradients else []
        return all(bool(t.isfinite().all()) for t in (loss, *held))

    def _loss(self, x: Data) -> Tensor:
        """Add the gradient of a batch, part after part; return its loss, summed over examples."""
        if self._num_parts == 1:
            return self._loss_of(x)
        size = -(-len(x) // self._num_parts)
        return sum(
            (self._loss_of(x[start : start + size]) for start in range(size, len(x), size)),
            self._loss_of(x[:size]),
        )

    def _loss_of(self, x: Data) -> Tensor:
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
