"""What one step is called with: tensors, which a graph takes, and values written into it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ppl_vae.batch import Batch, as_batch
from ppl_vae.inference.compilation.arguments.objects import PLAIN, key_of, opened, strange_parts
from ppl_vae.inference.compilation.tracing.constants import UntraceableError


@dataclass
class Call:
    """Arguments of a model and its guide, or data with the index of a batch.

    Attributes:
        args: what model and guide take.
        kwargs: likewise.
        data: where the batch is from, or None.
        index: of its examples.
        numbers: the places of the Python numbers that are inputs of a graph, as tensors.
    """

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    data: Any = None
    index: Tensor | None = None
    numbers: frozenset[int] = frozenset()

    @cached_property
    def _flat(self) -> tuple[list[Any], Any]:
        if self.index is not None:
            return pytree.tree_flatten(())
        return pytree.tree_flatten(opened((self.args, self.kwargs)))

    @property
    def structure(self) -> Hashable:
        """How the arguments are nested and named."""
        return self._flat[1]

    def given(self, dtype: torch.dtype) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what model and guide are called with."""
        if self.index is None:
            return self.args, self.kwargs
        return examples(self.data, self.index, dtype)

    def tensors(self, like: Tensor) -> list[Tensor]:
        """Return what is to be an input of a graph; fractions have the dtype of `like`."""
        if self.index is not None:
            return [self.index]
        return [
            v if isinstance(v, Tensor) else as_tensor(v, like)
            for place, v in enumerate(self._flat[0])
            if self._is_input(place, v)
        ]

    def strange(self) -> str:
        """Return the types of arguments of which a graph cannot know whether they change."""
        return ", ".join(sorted(strange_parts(self._flat[0])))

    def objects(self) -> list[object]:
        """Return the arguments whose own state the graph holds."""
        return [v for v in self._flat[0] if not isinstance(v, (*PLAIN, Tensor))]

    def signature(self) -> Hashable:
        """Return a key for everything that is not an input of the graph."""
        if self.index is not None:
            tensors = self.data.tensors if isinstance(self.data, Batch) else [self.data]
            return tuple(map(id, tensors)), _kind(self.index)
        return self._flat[1], tuple(
            _kind(v) if self._is_input(place, v) else key_of(v)
            for place, v in enumerate(self._flat[0])
        )

    def found_numbers(self) -> dict[int, int | float]:
        """Return the Python numbers among the arguments, by their places."""
        return {i: v for i, v in enumerate(self._flat[0]) if type(v) in (int, float)}

    def with_numbers(self, values: dict[int, int | float]) -> Call:
        """Return this call with other numbers at some places."""
        leaves, tree = self._flat
        leaves = [values.get(place, v) for place, v in enumerate(leaves)]
        args, kwargs = pytree.tree_unflatten(leaves, tree)
        return replace(self, args=args, kwargs=kwargs)

    def loss_of(self, gradient: Callable[..., Any]) -> Any:  # noqa: ANN401
        """Return what `gradient` returns for these arguments, numbers as they are."""
        leaves, tree = self._flat
        args, kwargs = pytree.tree_unflatten([_alias(v) for v in leaves], tree)
        return gradient(*args, **kwargs)

    def unhashable(self) -> Call:
        """Return this call with inputs that no dictionary takes as a key.

        A tensor would be a key of its own: a program that looks numbers up would miss its table.
        """
        found = self.found_numbers()
        return self.with_numbers({i: _UNHASHABLE[type(found[i])](found[i]) for i in self.numbers})

    def program(self, gradient: Callable[..., Any], dtype: torch.dtype) -> Callable[..., Any]:
        """Return `gradient`, which takes what model and guide do, as a function of tensors."""
        if self.index is not None:
            data = self.data

            def of_index(index: Tensor) -> Any:  # noqa: ANN401
                args, kwargs = examples(data, index, dtype)
                return gradient(*args, **kwargs)

            return of_index
        leaves, tree = self._flat
        inputs = [self._is_input(place, v) for place, v in enumerate(leaves)]

        def function(*tensors: Tensor) -> Any:  # noqa: ANN401
            rest = iter(tensors)
            # Fresh names for the tensors: a flow's cache would know those of an earlier run.
            filled = [_alias(next(rest)) if i else v for i, v in zip(inputs, leaves, strict=True)]
            args, kwargs = pytree.tree_unflatten(filled, tree)
            return gradient(*args, **kwargs)

        return function

    def _is_input(self, place: int, value: object) -> bool:
        return isinstance(value, Tensor) or place in self.numbers


def _refuse_as_key(number: float) -> int:
    raise UntraceableError(f"it looks {number!r} up in a dictionary or set")


_UNHASHABLE: dict[type, Any] = {
    kind: type(kind.__name__, (kind,), {"__hash__": _refuse_as_key}) for kind in (int, float)
}


class Numbers:
    """Which Python numbers of a program's calls are inputs of its graphs.

    A number that has had two values is one, unless the program cannot be traced with a tensor in
    its place: it is a size, say, or decides which course the program takes.
    """

    def __init__(self) -> None:
        self._first: dict[Hashable, dict[int, int | float]] = {}
        self._varying: dict[Hashable, set[int]] = {}
        self._constant: set[Hashable] = set()

    def of(self, call: Call) -> Call:
        """Return a call with the places of its numbers that are inputs."""
        now = call.found_numbers()
        if not now or _all_inputs(call) in self._constant:
            return replace(call, numbers=frozenset())
        first = self._first.setdefault(call.structure, now)
        varying = self._varying.setdefault(call.structure, set())
        varying |= {place for place, value in now.items() if value != first.get(place, value)}
        return replace(call, numbers=frozenset(varying & now.keys()))

    def at_first(self, call: Call) -> Call:
        """Return the call with the numbers of the first one like it."""
        first = self._first[call.structure]
        return call.with_numbers({place: first[place] for place in call.numbers & first.keys()})

    def keep_constant(self, call: Call) -> Call:
        """Make all numbers of calls like this one constants of a graph; return it with them."""
        self._constant.add(_all_inputs(call))
        return replace(call, numbers=frozenset())


def _all_inputs(call: Call) -> Hashable:
    return replace(call, numbers=frozenset(call.found_numbers())).signature()


def as_tensor(number: float, like: Tensor) -> Tensor:
    """Return a number as a tensor without dimensions, a fraction with the dtype of `like`."""
    dtype = like.dtype if isinstance(number, float) else torch.int64
    return torch.tensor(number, dtype=dtype, device=like.device)


def examples(
    data: Any,  # noqa: ANN401
    index: Tensor,
    dtype: torch.dtype,
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return a program's arguments at `index` of a batch, or of data with ``batch``."""
    held = isinstance(data, (Tensor, Batch))
    found = as_batch(data[index] if held else data.batch(index, dtype=dtype))
    return ((found,), {}) if isinstance(found, Tensor) else (found.args, found.kwargs)


def _alias(value: Any) -> Any:  # noqa: ANN401
    return value.view_as(value) if isinstance(value, Tensor) else value


def _kind(value: Tensor | float) -> Hashable:
    if isinstance(value, Tensor):
        return value.shape, value.dtype, value.device, value.requires_grad
    return type(value)
