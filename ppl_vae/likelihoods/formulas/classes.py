"""Log-likelihoods of classes and tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

MOST_CLASSES = 16


def wrong_categorical(fn: Any, x: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return what is met in place of the log-probability of a class."""
    logs, probs = fn.logits, fn.probs
    return {
        "softmax twice (probabilities taken for logits)": _taken(probs.log_softmax(-1), x),
        "the probability, not its logarithm": _taken(probs, x),
        "the targets are all classes alike": logs.mean(-1).expand(
            torch.broadcast_shapes(x.shape, logs.shape[:-1])
        ),
    }


def _taken(values: Tensor, x: Tensor) -> Tensor:
    shape = torch.broadcast_shapes(x.shape, values.shape[:-1])
    index = x.long().expand(shape).unsqueeze(-1)
    return values.expand(*shape, values.shape[-1]).gather(-1, index).squeeze(-1)


def other_classes(fn: Any, x: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return the log-probabilities with one class left out, as by `ignore_index`."""
    right, count = fn.log_prob(x), fn.probs.shape[-1]
    labels = range(count if count <= MOST_CLASSES else 1)
    words = "class {} is left out of the sum (ignore_index?)"
    return {words.format(label): torch.where(x == label, 0.0, right) for label in labels}
