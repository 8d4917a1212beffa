"""A pair as a LightningModule."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro.infer import ELBO
from pyro.ops.provenance import detach_provenance
from torch import Tensor
from torch.optim import Optimizer

from ppl_vae import checks, elbos
from ppl_vae.batch import Data
from ppl_vae.functions import as_argument, as_program
from ppl_vae.inference.steps.optimizers import OptimizerLike, Updater
from ppl_vae.inference.steps.serving import serving
from ppl_vae.inference.steps.step import Step
from ppl_vae.pair import Pair
from ppl_vae.seeding import derive, seeded

try:
    from lightning.pytorch import LightningModule
except ImportError:
    raise checks.extra("lightning", "lightning") from None

__all__ = ["PairModule"]


class _WithGradient(torch.autograd.Function):
    """A loss whose gradient is known already."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor], *_: Tensor) -> Tensor:  # noqa: ANN401
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # noqa: ANN401  # pyright: ignore[reportIncompatibleMethodOverride]
        return None, None, *(grad * each for each in ctx.gradients)


class PairModule(LightningModule):
    """A pair that Lightning's Trainer trains, with any estimator.

    Loss and gradient of a step are those of `fit`, per example. The loss carries the gradient that
    the estimator computed, so that Lightning does with it what it does with any: several
    processes, accumulation, clipping. Noise comes from `seed`, the step and the process, so that
    processes differ and a run that goes on from Lightning's checkpoint draws what it would have
    drawn. With several processes Lightning takes the mean of their gradients, which is the mean
    over the examples if each has as many, as its sampler sees to.

    Args:
        pair: what is trained, in place.
        elbo: an estimator's name, a ``pyro.infer.ELBO``, or None; see `fit`. Weights of the KL
            divergence are the estimator's: ``elbos.make("analytic-kl", kl_weight=2.0)``.
        optimizer: a torch optimiser of the pair's parameters, or a function of them that makes
            one, such as ``functools.partial(torch.optim.SGD, lr=0.1)``; None is Adam at 1e-3. For
            schedules write ``configure_optimizers`` in a subclass.
        seed: of the noise.

    Attributes:
        pair: as given.

    Raises:
        ImportError: the extra ``lightning`` is not installed.
        TypeError: something else than a pair, an estimator or such a function.
        ValueError: an unknown estimator. Later, at the first batch: one that the pair cannot
            score.
        NotImplementedError: an optimiser of Pyro's. Later, at the first batch: the estimator
            cannot be right for the pair.

    Example:
        >>> from ppl_vae import LinearGaussian
        >>> module = PairModule(LinearGaussian(data_dim=4, latent_dim=2), elbo="analytic-kl")
        >>> type(module.configure_optimizers()).__name__
        'Adam'
    """

    def __init__(
        self,
        pair: Pair,
        *,
        elbo: str | ELBO | None = None,
        optimizer: OptimizerLike = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        remedy = "Train a model and a guide that are functions with CompiledSVI."
        self.pair: Pair = checks.instance("pair", pair, Pair, "a ppl_vae.Pair", remedy)
        if elbo is not None:
            elbos.make(elbo)
        self._updater = Updater(optimizer, pair)
        if not isinstance(self._updater.optimizer, Optimizer):
            raise checks.not_implemented(
                "a torch optimiser, which Lightning drives",
                "one of Pyro",
                "For example functools.partial(torch.optim.Adam, lr=1e-3).",
            )
        self._elbo, self._seed = elbo, seed
        self._step: Step | None = None

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:  # noqa: ANN401
        """Return the loss per example, with its gradient; log ``train_elbo``."""
        step, x = self._on(batch)
        held = [(p, p.grad) for p in self.pair.parameters()]  # of steps before, if they add up
        with self._noise("train", batch_idx), torch.enable_grad():
            # A WeightedELBO's knows which sites it comes from; autograd wants a plain tensor.
            loss = detach_provenance(step.gradient(x)).flatten()
        found = [(p, p.grad) for p, _ in held if p.grad is not None]
        for parameter, gradient in held:
            parameter.grad = gradient
        parameters, gradients = zip(*found, strict=True)
        self._tell("train_elbo", -loss[-1], x)
        return _WithGradient.apply(loss[0], list(gradients), *parameters)  # pyright: ignore[reportReturnType]

    def validation_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ANN401
        """Log ``val_elbo``, the mean of the ELBO per example."""
        step, x = self._on(batch)
        elbo: Any = elbos.without_weights(step.elbo)
        with self._noise("validation", batch_idx):
            loss = torch.as_tensor(elbo.loss(step.pair.model, step.pair.guide, x))
        self._tell("val_elbo", -loss / step.pair.num_examples(x), x)

    def configure_optimizers(self) -> Optimizer:
        """Return the optimiser of the pair's parameters."""
        return self._updater.optimizer  # pyright: ignore[reportReturnType]

    def _on(self, batch: Any) -> tuple[Step, Data]:  # noqa: ANN401
        """Return what takes steps on such batches, after a look at the first, and the batch."""
        x = as_argument(self.pair, batch).to(self.pair.dtype)
        if self._step is None:
            subject, _ = as_program(self.pair, batch)
            subject.check(x)
            with seeded(derive(self._seed, "look"), self.pair.device):
                elbo = serving(self._elbo, subject, x)
            self._step = Step(subject, elbo, self._updater)
        return self._step, x

    @contextmanager
    def _noise(self, part: str, number: int) -> Iterator[None]:
        seed = derive(self._seed, part, self.current_epoch, number, self.global_rank)
        with seeded(seed, self.pair.device), pyro.validation_enabled(False):  # noqa: FBT003
            yield

    def _tell(self, name: str, elbo: Tensor, x: Data) -> None:
        options: dict[str, Any] = {"on_step": False, "on_epoch": True, "prog_bar": True}
        count = self.pair.num_examples(x)
        self.log(name, elbo, batch_size=count, sync_dist=True, **options)
