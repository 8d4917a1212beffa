"""How much memory a computation holds at its peak, on any device."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of the storages that operations make, while they live."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        known = {_key(leaf) for leaf in tree_leaves((args, kwargs)) if _is_tensor(leaf)}
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if _is_tensor(leaf) and _key(leaf) not in known | self._seen:
                storage = leaf.untyped_storage()
                self._seen.add(_key(leaf))
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._free, _key(leaf), storage.nbytes())
        return result

    def _free(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live -= size


def peak_bytes(work: Callable[[], object]) -> int:
    """Return the most bytes that tensors made by `work` hold at one time.

    Counted from the operations themselves, the backward pass included, so the number is the same
    from run to run; what an allocator or a library keeps beside it is not in it.

    Example:
        >>> peak_bytes(lambda: torch.ones(100, dtype=torch.float64) + 1)
        1600
    """
    counter = _LiveBytes()
    with counter:
        work()
    return counter.peak


def _is_tensor(leaf: object) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided


def _key(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata
