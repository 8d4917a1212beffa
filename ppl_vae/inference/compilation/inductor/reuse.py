"""What was compiled for the same operations before, in this process."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

Function = Callable[..., Any]

# The oldest goes first.
_MOST = 32
_kept: dict[Hashable, Function] = {}


def once(module: GraphModule, inputs: Sequence[Tensor], compiling: Callable[[], Any]) -> Function:
    """Return what `compiling` returns, or has returned for the same operations and inputs.

    The function must depend on its inputs alone. Pairs of one architecture share it: PyTorch finds
    it on disk, but loads it anew each time, into memory that it never gives back.
    """
    if any(node.op == "get_attr" for node in module.graph.nodes):  # it holds tensors
        return compiling()
    key = (module.code, *map(_kind, inputs), *_settings())
    if key not in _kept:
        _kept[key] = compiling()
        if len(_kept) > _MOST:
            del _kept[next(iter(_kept))]
    return _kept[key]


def _kind(x: Tensor) -> Hashable:
    return x.shape, x.stride(), x.dtype, x.device, x.data_ptr() % 64 == 0


def _settings() -> tuple[Hashable, ...]:
    """Return what beside its operations decides on a function's code."""
    from torch._inductor import config

    return (
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.allow_tf32,
        config.get_hash(),
    )
