"""A block after which every tensor is as it was before."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from ppl_vae.seeding import set_streams, streams

_BATCH_NORM = torch.ops.aten.native_batch_norm.default


class _KeepOld(TorchDispatchMode):
    """Copies a tensor before the first operation that changes it in place."""

    def __init__(self) -> None:
        super().__init__()
        self.old: dict[Any, tuple[Tensor, Tensor]] = {}
        self._made: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        for tensor in _written(func, args, kwargs or {}):
            part = (tensor.storage_offset(), tensor.shape, tensor.stride())
            place = tensor.untyped_storage()._cdata
            if place not in self._made and (place, part) not in self.old:
                with _disable_current_modes():
                    self.old[place, part] = (tensor.detach(), tensor.detach().clone())
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor) and not _is_view_of_old(func):
                self._made.add(tensor.untyped_storage()._cdata)
        return result


def _is_view_of_old(func: Any) -> bool:  # noqa: ANN401
    return any(r.alias_info is not None for r in func._schema.returns)


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Tensor]:  # noqa: ANN401
    if func is _BATCH_NORM:  # changes its running statistics, though its schema does not say so
        yield from (t for t in args[3:5] if isinstance(t, Tensor))
    if not func._schema.is_mutable:
        return
    for number, argument in enumerate(func._schema.arguments):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        value = args[number] if number < len(args) else kwargs.get(argument.name)
        for tensor in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(tensor, Tensor):
                yield tensor


@contextmanager
def undone(device: torch.device) -> Iterator[Callable[[], bool]]:
    """Run a block, then put back every tensor that it changed and every random stream.

    Args:
        device: where the block draws, in addition to the CPU.

    Yields:
        A function that tells whether the block has drawn from Python's or NumPy's global stream,
        which no graph can follow.
    """
    torch_state, python_state, numpy_state = streams(device), random.getstate(), _numpy_state()

    def strayed() -> bool:
        return random.getstate() != python_state or _numpy_state() != numpy_state

    keep = _KeepOld()
    try:
        with keep:
            yield strayed
    finally:
        with torch.no_grad():
            for tensor, old in reversed(keep.old.values()):  # parts may overlap
                tensor.copy_(old)
        set_streams(torch_state, device)
        random.setstate(python_state)
        kind, keys, *rest = numpy_state
        np.random.set_state((kind, np.frombuffer(keys, dtype=np.uint32), *rest))  # noqa: NPY002


def _numpy_state() -> tuple[Any, ...]:
    state: Any = np.random.get_state()  # noqa: NPY002
    kind, keys, *rest = state
    return (kind, keys.tobytes(), *rest)
