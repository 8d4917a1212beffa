"""Missing entries: a mask that says which numbers of the data were observed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Independent

from ppl_vae import checks


def observed(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return the data with 0 in the place of what is missing, whatever stands there.

    Args:
        x: data, examples first; what is missing may be NaN.
        mask: of the shape of `x`, True where an entry was observed; None if all were.

    Raises:
        TypeError: `x` is no tensor, or `mask` no tensor of booleans.
        ValueError: it has another number of entries per example.
    """
    checks.instance("x", x, Tensor, "a tensor", "Pass torch.as_tensor(x).")
    if mask is None:
        return x
    checks.instance("mask", mask, Tensor, "a tensor of booleans", "Pass torch.as_tensor(mask).")
    if mask.dtype != torch.bool:
        raise checks.type_error(
            "mask as booleans, True where an entry was observed",
            f"dtype {mask.dtype}",
            "Pass mask.bool().",
        )
    if len(mask) != len(x) or mask.numel() != x.numel():
        raise checks.value_error(
            f"mask of the data's shape {tuple(x.shape)}",
            f"shape {tuple(mask.shape)}",
            "Give every entry a boolean: mask.expand_as(x).",
        )
    return torch.where(mask.reshape(x.shape), x, 0)


def scored(fn: Any, mask: Tensor | None) -> Any:  # noqa: ANN401
    """Return a distribution of independent numbers that scores the observed ones alone.

    Args:
        fn: with `to_event`, as a likelihood of images.
        mask: booleans that broadcast to its numbers, (batch, *event_shape); None for all.

    Raises:
        NotImplementedError: its numbers are not independent.
    """
    if mask is None:
        return fn
    if not isinstance(fn, Independent) or fn.base_dist.event_shape:
        raise checks.not_implemented(
            "a likelihood of independent numbers, some of which are missing",
            type(fn).__name__,
            "Score the observed entries in a model of your own.",
        )
    inner: Any = fn.base_dist
    return inner.mask(mask).to_event(fn.reinterpreted_batch_ndims)
