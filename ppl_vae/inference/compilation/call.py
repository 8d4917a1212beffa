"""What one step is called with: tensors, which a graph takes, and values written into it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

_STATIC = (bool, int, float, str, bytes, type(None), torch.dtype, torch.device)


@dataclass
class Call:
    """Arguments of a model and its guide, or data with the index of a batch.

    Attributes:
        args: what model and guide take.
        kwargs: likewise.
        data: where the batch is from, or None.
        index: of its examples.
    """

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    data: Any = None
    index: Tensor | None = None

    def given(self, dtype: torch.dtype) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what model and guide are called with."""
        if self.index is None:
            return self.args, self.kwargs
        return (examples(self.data, self.index, dtype),), {}

    def tensors(self) -> list[Tensor]:
        """Return what is to be an input of a graph."""
        if self.index is not None:
            return [self.index]
        return [v for v in self._values() if isinstance(v, Tensor)]

    def strange(self) -> str:
        """Return the types of arguments of which a graph cannot know whether they change."""
        values = [] if self.index is not None else self._values()
        kinds = {type(v).__name__ for v in values if not isinstance(v, (*_STATIC, Tensor))}
        return ", ".join(sorted(kinds))

    def signature(self) -> tuple[Hashable, Hashable]:
        """Return a key for the tensors' shapes and kinds, and one for everything else."""
        shapes = tuple((t.shape, t.dtype, t.device, t.requires_grad) for t in self.tensors())
        if self.index is not None:
            return shapes, id(self.data)
        values, tree = pytree.tree_flatten((self.args, self.kwargs))
        static = tuple(None if isinstance(v, Tensor) else (type(v), v) for v in values)
        return shapes, (tree, static)

    def program(self, gradient: Callable[..., Any], dtype: torch.dtype) -> Callable[..., Any]:
        """Return `gradient`, which takes what model and guide do, as a function of tensors."""
        if self.index is not None:
            data = self.data
            return lambda index: gradient(examples(data, index, dtype))
        values, tree = pytree.tree_flatten((self.args, self.kwargs))

        def function(*tensors: Tensor) -> Any:  # noqa: ANN401
            rest = iter(tensors)
            filled = [next(rest) if isinstance(v, Tensor) else v for v in values]
            args, kwargs = pytree.tree_unflatten(filled, tree)
            return gradient(*args, **kwargs)

        return function

    def _values(self) -> list[Any]:
        return pytree.tree_flatten((self.args, self.kwargs))[0]


def examples(data: Any, index: Tensor, dtype: torch.dtype) -> Tensor:  # noqa: ANN401
    """Return the examples at `index` of a tensor, or of data with ``batch``."""
    if isinstance(data, Tensor):
        return data[index]
    return data.batch(index, dtype=dtype)
