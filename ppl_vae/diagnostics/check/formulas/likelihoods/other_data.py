"""Log-likelihoods of data that are another example's, shifted, turned or padded."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, permutations
from typing import Any

import torch
from torch import Tensor


def other_data(fn: Any, x: Tensor, dims: int) -> dict[str, Tensor]:  # noqa: ANN401
    """Return the log-densities of the data, (batch, *event), in other arrangements."""
    right = fn.log_prob(x)
    each = (fn.log_prob(x.roll(shift, 0)) for shift in range(len(x)))
    found = {
        "another example's data": fn.log_prob(x.roll(1, 0)),
        "every example is compared with every reconstruction (a broadcast?)": (
            sum(each, torch.zeros_like(right)) / len(x)
        ),
    }
    if dims == 1 and x.shape[-1] > 1:
        found |= _shifted(fn, x, right)
    if dims > 1:
        words = "its pixels are in another order than the decoder's"
        found |= {f"{words}: {order}": fn.log_prob(data) for order, data in _turned(x, dims)}
    return found


def _shifted(fn: Any, x: Tensor, right: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return the log-densities of a sequence's data one step before or after their own."""

    def without(values: Tensor, place: int) -> Tensor:
        kept = torch.ones_like(values)
        kept[..., place] = 0
        return values * kept

    found = {}
    for step, edge, neighbour in ((-1, -1, "later"), (1, 0, "earlier")):
        other = fn.log_prob(x.roll(step, -1))
        words = f"the targets are shifted by one: each position is scored by the one {neighbour}"
        found |= {f"{words}, around the end": other, words: without(other, edge)}
    found["the first position is left out"] = without(right, 0)
    found["the last position is left out"] = without(right, -1)
    return found


def _turned(x: Tensor, dims: int) -> Iterator[tuple[str, Tensor]]:
    lead, event = x.shape[:-dims], x.shape[-dims:]
    first = range(len(lead))
    names = "CHW"[-dims:] if dims <= len("CHW") else "ABCDEFG"[:dims]
    for order in islice(permutations(range(dims)), 1, None):
        turned = x.permute(*first, *(len(lead) + axis for axis in order))
        # One that only moves a dimension of length 1 changes nothing.
        if torch.equal(turned.reshape(x.shape), x):
            continue
        other = "".join(names[axis] for axis in order)
        yield f"{other} taken for {names}", turned.reshape(x.shape)
        if turned.shape != x.shape:
            read = x.reshape(*lead, *(event[axis] for axis in order))
            back = (len(lead) + order.index(axis) for axis in range(dims))
            yield f"{names} taken for {other}", read.permute(*first, *back)
    yield "right to left", x.flip(-1)
    yield "upside down", x.flip(-2)
