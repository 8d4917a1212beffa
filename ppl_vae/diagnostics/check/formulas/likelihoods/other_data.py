"""Log-likelihoods of data that are another example's, shifted, turned or padded."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any

import torch
from torch import Tensor

ROWS_COLUMNS = 2


def other_data(fn: Any, x: Tensor, dims: int) -> dict[str, Tensor]:  # noqa: ANN401
    """Return log-densities of the data in another arrangement.

    Args:
        fn: the distribution of single numbers.
        x: the data, (batch, *event).
        dims: how many dimensions an example has.
    """
    right = fn.log_prob(x)
    found = {"another example's data": fn.log_prob(x.roll(1, 0))}
    each = (fn.log_prob(x.roll(shift, 0)) for shift in range(len(x)))
    found["every example is compared with every reconstruction (a broadcast?)"] = sum(
        each, torch.zeros_like(right)
    ) / len(x)
    if dims == 1 and x.shape[-1] > 1:
        found |= _shifted(fn, x, right)
    if dims > 1:
        found |= {
            f"its pixels are in another order than the decoder's: {said}": fn.log_prob(turned)
            for said, turned in _turned(x, dims)
        }
    return found


def _shifted(fn: Any, x: Tensor, right: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return the log-densities of a sequence's data one step before or after their own."""
    found = {}
    for step, said in ((-1, "later"), (1, "earlier")):
        other = fn.log_prob(x.roll(step, -1))
        words = f"the targets are shifted by one: each position is scored by the one {said}"
        found[f"{words}, around the end"] = other
        edge = torch.ones_like(right)
        edge[..., -1 if step < 0 else 0] = 0
        found[words] = other * edge
    for place, said in ((0, "first"), (-1, "last")):
        edge = torch.ones_like(right)
        edge[..., place] = 0
        found[f"the {said} position is left out"] = right * edge
    return found


def _turned(x: Tensor, dims: int) -> Iterator[tuple[str, Tensor]]:
    lead, event = x.shape[:-dims], x.shape[-dims:]
    names = "CHW"[-dims:] if dims <= len("CHW") else "ABCDEFG"[:dims]
    for order in permutations(range(dims)):
        if list(order) == sorted(order):
            continue
        axes = [len(lead) + axis for axis in order]
        there = x.permute(*range(len(lead)), *axes)
        said = "".join(names[axis] for axis in order)
        # One that only moves a dimension of length 1 changes nothing.
        if torch.equal(there.reshape(x.shape), x):
            continue
        yield f"{said} taken for {names}", there.reshape(x.shape)
        if there.shape == x.shape:
            continue
        shape = [event[axis] for axis in order]
        back = [order.index(axis) for axis in range(dims)]
        read = x.reshape(*lead, *shape).permute(
            *range(len(lead)), *[len(lead) + axis for axis in back]
        )
        yield f"{names} taken for {said}", read
    for axis, said in ((-1, "right to left"), (-2, "upside down")):
        yield said, x.flip(axis)
