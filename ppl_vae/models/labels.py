"""Class labels as networks take them."""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_vae import checks


def check_labels(
    name: str,
    y: Tensor,
    num_classes: int,
    *,
    remedy: str = "Number the classes from 0, or build the pair with more of them.",
) -> None:
    """Raise unless `y` holds whole numbers from 0 to ``num_classes - 1``, (batch,).

    Raises:
        TypeError: `y` holds fractions or booleans.
        ValueError: another shape, or a label out of range (looked for while values are checked).
    """
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise checks.type_error(
            f"{name} as whole numbers, one class per example",
            f"dtype {y.dtype}",
            f"Convert them: {name}.long().",
        )
    if y.dim() != 1:
        raise checks.value_error(
            f"{name} of shape (batch,)",
            f"shape {tuple(y.shape)}",
            "Pass labels, not one-hot rows.",
        )
    if checks.values_are_checked():
        low, high = int(y.min()), int(y.max())
        if low < 0 or high >= num_classes:
            raise checks.value_error(
                f"{name} from 0 to {num_classes - 1}",
                f"labels from {low} to {high}",
                remedy,
            )


def one_hot(y: Tensor, num_classes: int, like: Tensor) -> Tensor:
    """Return rows with a 1 at the label, (*shape of y, num_classes), of the dtype of `like`."""
    # Not by torch's one_hot, which reads the labels and so cannot be traced.
    return (y.unsqueeze(-1) == torch.arange(num_classes, device=y.device)).to(like.dtype)


def beside(code: Tensor, *columns: Tensor) -> Tensor:
    """Return codes with further numbers of each example behind them, for all particles.

    Args:
        code: (*batch, size).
        *columns: (*batch, any size) each, whose batches broadcast with that of `code`.
    """
    batch = torch.broadcast_shapes(code.shape[:-1], *(c.shape[:-1] for c in columns))
    return torch.cat([part.expand(*batch, part.shape[-1]) for part in (code, *columns)], -1)
