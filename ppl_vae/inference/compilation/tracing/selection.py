"""Indexing by whole numbers that are tensors, without a look at them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def select(tensor: Tensor, index: Any) -> Tensor:  # noqa: ANN401
    """Return ``tensor[index]`` as an operation on the numbers in `index` too.

    torch reads a whole number without dimensions, such as a draw of one category, and its value
    would be part of a graph. Beside other tensors, masks or lists it is left to torch.
    """
    parts = index if isinstance(index, tuple) else (index,)
    single = [_is_single(part) for part in parts]
    if not any(single) or not all(
        one or part is None or part is ... or type(part) in (int, slice)
        for one, part in zip(single, parts, strict=True)
    ):
        return tensor[index]
    found, place = [], 0
    for one, part in zip(single, parts, strict=True):
        if one:
            found.append((place, part))
        if part is ...:
            place += tensor.dim() - sum(each is not None and each is not ... for each in parts)
        elif one or part is None or isinstance(part, slice):
            place += 1
    rest = tuple(slice(None) if one else part for one, part in zip(single, parts, strict=True))
    result = tensor[rest]
    for place, number in reversed(found):
        result = torch.ops.aten.index.Tensor(result, [None] * place + [number.long()])
    return result


def _is_single(part: object) -> bool:
    return (
        isinstance(part, Tensor)
        and part.dim() == 0
        and part.dtype in (torch.int64, torch.int32, torch.int16, torch.int8)
    )
