"""One step of stochastic variational inference."""

from __future__ import annotations

from typing import Any

import torch
from pyro.infer import ELBO
from torch import Tensor

from ppl_vae.batch import Data
from ppl_vae.inference.deferred import deferred
from ppl_vae.inference.optimizers import Updater
from ppl_vae.pair import Pair


class Step:
    """Loss and gradient per example, then the optimiser's update.

    The gradient is divided by the number of examples, so a learning rate means the same at every
    batch size. Nothing waits for the device.

    Args:
        pair: what is trained.
        elbo: the estimator.
        update: takes the parameters that have a gradient and changes them.
    """

    def __init__(self, pair: Pair, elbo: ELBO, update: Updater) -> None:
        self.pair = pair
        self.update = update
        # Pyro's ELBO does not declare loss_and_grads, though each of its classes has it.
        self.elbo: Any = deferred(elbo)
        self._parameters = [p for p in pair.parameters() if p.requires_grad]

    def gradient(self, x: Data) -> Tensor:
        """Put the gradient at `x` into the parameters' ``grad``; return the loss per example.

        The loss is the negative ELBO; the gradient is that of the pair's auxiliary loss too.
        """
        for parameter in self._parameters:
            parameter.grad = None
        num_examples = self.pair.num_examples(x)
        loss = self.elbo.loss_and_grads(self.pair.model, self.pair.guide, x)
        auxiliary = self.pair.auxiliary_loss(x)
        if auxiliary is not None:
            auxiliary.backward()
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if num_examples > 1:
            torch._foreach_mul_(gradients, 1 / num_examples)  # pyright: ignore[reportPrivateImportUsage]
        return torch.as_tensor(loss) / num_examples

    def apply(self) -> None:
        """Change the parameters by the gradient that is there."""
        self.update([p for p in self._parameters if p.grad is not None])
