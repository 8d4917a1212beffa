"""What is measured after an epoch."""

from __future__ import annotations

from typing import Any

import pyro
import torch

from ppl_vae.inference.batches import DataSource, in_order
from ppl_vae.pair import Pair

BATCH_SIZE = 1000


@torch.no_grad()
def evaluate_elbo(elbo: Any, pair: Pair, data: DataSource) -> float:  # noqa: ANN401
    """Return the estimate of the ELBO per example over all of `data`, in nats."""
    total, count = 0.0, 0
    with pyro.validation_enabled(False):  # noqa: FBT003
        for x in in_order(data, BATCH_SIZE, pair):
            total -= float(elbo.loss(pair.model, pair.guide, x))
            count += pair.num_examples(x)
    return total / count


@torch.no_grad()
def evaluate_auxiliary(pair: Pair, data: DataSource) -> list[float]:
    """Return the mean of the auxiliary loss per example, or nothing for a pair without one."""
    total, count = [], 0
    if type(pair).auxiliary_loss is Pair.auxiliary_loss:
        return []
    for x in in_order(data, BATCH_SIZE, pair):
        loss = pair.auxiliary_loss(x)
        total += [] if loss is None else [float(loss)]
        count += pair.num_examples(x)
    return [sum(total) / count] if total else []
