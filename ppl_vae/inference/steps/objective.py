"""The objective of a training run: an estimator, with weights that follow a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pyro.infer import ELBO
from torch import Tensor

from ppl_vae.elbos.kl_weights.estimator import WeightedELBO, weigh
from ppl_vae.inference.steps.schedules import Schedule, kl_weights

# What `fit` takes as the weight of the KL divergence.
KLSchedule = float | Schedule | Mapping[str, float | Schedule]


class Objective:
    """An estimator and the weight of the KL divergence at every step of a run.

    Args:
        elbo: an estimator, which may have weights already.
        kl_weight: a number, a function of the fraction of training done, or one of these by site.
        free_bits: nats per latent dimension.
        num_steps: an epoch; None for a loader without a length, whose weights are those of its
            epochs.
        num_epochs: of the whole run.
        like: a tensor whose dtype and device the weights have.

    Attributes:
        elbo: the estimator of the objective.
        weights: the tensors in it that change from step to step.

    Raises:
        TypeError: a weight of another kind, or weights of an estimator that has some.
        ValueError: a negative weight, at whatever step.
        NotImplementedError: weights of a bound that has no KL divergence apart.
    """

    def __init__(
        self,
        elbo: ELBO,
        kl_weight: KLSchedule,
        free_bits: float,
        *,
        num_steps: int | None,
        num_epochs: int,
        like: Tensor,
    ) -> None:
        self.weights: list[Tensor] = []
        self._num_steps = num_steps or 1
        sites: Any = kl_weight if isinstance(kl_weight, Mapping) else {"": kl_weight}
        values: dict[str, float | Tensor] = {}
        tables = []
        for site, weight in sites.items():
            table = kl_weights(weight, self._num_steps * num_epochs)
            if isinstance(table, Tensor):
                tables.append(table)
                self.weights.append(torch.ones((), dtype=like.dtype, device=like.device))
                values[site] = self.weights[-1]
            else:
                values[site] = table
        self._table = torch.stack(tables, 1).to(like) if tables else None
        weight = values if isinstance(kl_weight, Mapping) else values[""]
        self.elbo = weigh(elbo, kl_weight=weight, free_bits=free_bits)

    def of_epoch(self, epoch: int) -> Tensor | None:
        """Return the changing weights of an epoch's steps, (steps, weights); None without any.

        Of a loader without a length there is one row, for all steps.
        """
        if self._table is None:
            return None
        return self._table[(epoch - 1) * self._num_steps : epoch * self._num_steps]

    def current(self) -> dict[str, float]:
        """Return the weights of the last step, by their names in the history."""
        weight = getattr(self.elbo, "kl_weight", 1.0)
        if isinstance(weight, Mapping):
            return {f"kl_weight.{site}": float(each) for site, each in weight.items()}
        return {"kl_weight": float(weight)}


def describe_weights(
    elbo: ELBO, kl_weight: KLSchedule, free_bits: float, num_epochs: int
) -> dict[str, object]:
    """Return what weights and free bits are, for a run's settings; nothing if there are none."""
    if isinstance(elbo, WeightedELBO):
        return {"objective": elbo.objective}
    sites: Any = kl_weight if isinstance(kl_weight, Mapping) else {"": kl_weight}
    named = {
        site: _described(each, num_epochs) if callable(each) else float(each)
        for site, each in sites.items()
    }
    weight = named if isinstance(kl_weight, Mapping) else named[""]
    found: dict[str, object] = {} if weight == 1.0 else {"kl_weight": weight}
    return {**found, "free_bits": free_bits} if free_bits else found


def _described(schedule: Any, num_epochs: int) -> str:  # noqa: ANN401
    """Return what a schedule is, which depends on how long training is to be."""
    name = getattr(schedule, "__qualname__", None)
    if name is None:
        return f"{schedule!r} over {num_epochs} epochs"
    # Two functions may share a name, <lambda> above all.
    weights = ", ".join(f"{float(schedule(done / 4)):.6g}" for done in range(5))
    return f"{schedule.__module__}.{name} ({weights}) over {num_epochs} epochs"
