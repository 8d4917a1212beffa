"""What estimators from draws share: the draws, the checks, and the loss with its gradient."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from pyro.infer import ELBO
from pyro.infer.enum import get_importance_trace
from pyro.infer.util import is_validation_enabled
from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ppl_vae import checks
from ppl_vae.elbos.sites.draws import CutAtLatents, Draw, Function, Program
from ppl_vae.elbos.sites.subsamples import SameSubsamples
from ppl_vae.elbos.sites.traces import check_masks, check_sites


class PathwiseELBO(ELBO):
    """An estimator from reparameterised draws; a subclass writes `bound`.

    Args:
        num_particles: draws in each estimate, at least 1.
        **options: of ``pyro.infer.ELBO``, such as ``vectorize_particles``.

    Attributes:
        cuts_latents: whether `bound` needs ``Draw.cut``.
        weighs_particles: whether `bound` is a logarithm of importance weights.
        shares_subsamples: whether all particles are to see the same data points of a plate that
            subsamples.
        fewest_particles: that it takes.
        runs_once_a_particle: whether guide and model are run once for each particle, or once for
            all of them along a plate.

    Raises:
        TypeError: `num_particles` is not an int.
        ValueError: `num_particles` below 1; at a step, a site that model or guide lacks, or masks
            that hide everything (looked for while Pyro validates).
        NotImplementedError: at a step, a draw of the guide that is not reparameterised.
    """

    cuts_latents = False
    weighs_particles = False
    shares_subsamples = False
    fewest_particles = 1
    runs_once_a_particle = True

    def __init__(self, num_particles: int = 1, **options: Any) -> None:  # noqa: ANN401
        checks.count("num_particles", num_particles)
        super().__init__(num_particles=num_particles, **options)

    @abstractmethod
    def bound(self, draws: list[Draw], program: Program) -> Tensor:
        """Return the estimate to maximise, a scalar in nats, with the estimator's gradient.

        Args:
            draws: ``num_particles`` of them, or one that holds all along a plate.
            program: model and guide with their arguments.
        """

    def differentiable_loss(
        self, model: Function, guide: Function, *args: object, **kwargs: object
    ) -> Tensor:
        """Return the negative of `bound`, a scalar in nats, with its gradient."""
        program = Program(model, guide, args, kwargs)
        return -self.bound(list(self._draws(program)), program)

    def loss(self, model: Function, guide: Function, *args: object, **kwargs: object) -> float:
        """Return the loss as a number."""
        # The path needs a graph even where the caller needs no gradient.
        with torch.set_grad_enabled(self.cuts_latents or torch.is_grad_enabled()):
            return self.differentiable_loss(model, guide, *args, **kwargs).item()

    def loss_and_grads(
        self, model: Function, guide: Function, *args: object, **kwargs: object
    ) -> Tensor:
        """Return the loss; add its gradient to the parameters' ``grad``."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward(retain_graph=self.retain_graph)
        return loss.detach()

    def check_traces(self, model: Trace, guide: Trace) -> None:
        """Raise unless the estimate can be right for the sites of model and guide."""
        check_sites(model, guide)

    def _draws(self, program: Program) -> Iterator[Draw]:
        shared = SameSubsamples() if self.shares_subsamples else Messenger()
        for _ in range(1 if self.vectorize_particles else self.num_particles):
            cut = CutAtLatents()
            with shared, cut if self.cuts_latents else Messenger():
                # One trace at a time, so that each has a cut of its own.
                model_trace, guide_trace = next(iter(self._get_traces(*program)))
            yield Draw(model_trace, guide_trace, cut)

    def _get_trace(
        self, model: Function, guide: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Trace, Trace]:
        traces = get_importance_trace("flat", self.max_plate_nesting, model, guide, args, kwargs)
        self.check_traces(*traces)
        if is_validation_enabled():
            check_masks(traces[0])
        return traces
