"""Objects whose contents a program may change and that show no attributes."""

from __future__ import annotations

import collections
import functools
import itertools
import operator
import random
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from ppl_vae.inference.compilation.tracing.constants import UntraceableError

_GLOBAL = getattr(random, "_inst", None)  # looked at by `undone`
_CACHE = type(functools.lru_cache(lambda: None))
_MOST_NUMBERS = 10_000
_STREAM = "a random stream of its own"


MISSING = object()


class Contents:
    """What is in a set, queue, array, cache or random stream, as it is now.

    Args:
        held: the object.
        name: what to call it.
    """

    def __init__(self, held: Any, name: str) -> None:  # noqa: ANN401
        self.name, self._held = name, held
        self._look, self._put_back = _ways(held)
        self._old = self._look()

    @property
    def is_stream(self) -> bool:
        """Whether it is a random stream, which others than the program may draw from."""
        return self.name == _STREAM

    def changed(self) -> bool:
        """Return whether anything is not as it was."""
        return not _same(self._look(), self._old)

    @property
    def place(self) -> int:
        """What tells the object from others that are there."""
        return id(self._held)

    @property
    def values(self) -> list[object]:
        """What was in it, to compare with another; nothing where it shows no values."""
        if isinstance(self._old, np.ndarray):
            return [self._old.shape, self._old.tobytes()]
        return self._old if isinstance(self._held, collections.deque) else []

    def restore(self) -> None:
        """Put back what was there."""
        if self.changed():
            self._put_back(self._old)


def contents(item: object) -> Contents | None:
    """Return the contents of an object that has hidden ones, or None.

    Raises:
        UntraceableError: it is an iterator whose place cannot be seen.
    """
    if isinstance(item, np.ndarray) and (item.dtype.hasobject or item.size > _MOST_NUMBERS):
        return None
    if item is _GLOBAL:
        return None
    if isinstance(item, Iterator) and type(item).__module__ in ("builtins", "itertools"):
        return Contents(item, "the place of an iterator")
    name = _name(item)
    return None if name is None else Contents(item, name)


def is_cell(holder: object) -> bool:
    """Return whether `holder` is that of a closed-over variable."""
    return isinstance(holder, types.CellType)


def at(holder: Any, key: Any) -> object:  # noqa: ANN401
    """Return what a holder has at a key, or a cell; or `MISSING`."""
    try:
        return holder.cell_contents if is_cell(holder) else holder[key]
    except (KeyError, IndexError, ValueError):
        return MISSING


def put_back(held: object, old: Any) -> None:  # noqa: ANN401
    """Give a list its items back, and a dictionary its keys in their order, and no others."""
    if isinstance(held, list):
        held[:] = old
    elif isinstance(held, dict):
        for key in [key for key in held if key not in old]:
            del held[key]
        for key in old if list(held) != list(old) else ():
            held[key] = held.pop(key, old[key])


def _name(item: object) -> str | None:
    for kinds, name in _NAMES:
        if isinstance(item, kinds):
            return name
    return None


_NAMES: tuple[tuple[Any, str], ...] = (
    (set, "an entry of a set"),
    (collections.deque, "an entry of a deque"),
    (np.ndarray, "an entry of an array"),
    (_CACHE, "what functools.lru_cache keeps"),
    ((torch.Generator, np.random.Generator, np.random.RandomState, random.Random), _STREAM),
)


def _ways(held: Any) -> tuple[Callable[[], Any], Callable[[Any], object]]:  # noqa: ANN401
    """Return how to look at what an object holds, and how to put it back."""
    if isinstance(held, Iterator):  # it cannot be put back
        return _place(held), lambda _: None
    if isinstance(held, set):
        return (lambda: set(held)), lambda old: (held.clear(), held.update(old))
    if isinstance(held, collections.deque):
        return (lambda: list(held)), lambda old: (held.clear(), held.extend(old))
    if isinstance(held, np.ndarray):
        return held.copy, lambda old: np.copyto(held, old)
    if isinstance(held, _CACHE):  # entries cannot be taken out one by one
        return (lambda: held.cache_info().currsize), lambda old: old or held.cache_clear()
    if isinstance(held, torch.Generator):
        return held.get_state, held.set_state
    if isinstance(held, np.random.Generator):
        bits: Any = held.bit_generator
        return (lambda: bits.state), lambda old: setattr(bits, "state", old)
    if isinstance(held, np.random.RandomState):
        return held.get_state, held.set_state
    return held.getstate, held.setstate


def _place(held: Any) -> Callable[[], Any]:  # noqa: ANN401
    """Return how to look at an iterator's place."""
    if isinstance(held, types.GeneratorType):
        return lambda: _place_of_generator(held)
    if isinstance(held, (itertools.count, itertools.repeat)):
        return lambda: repr(held)
    if hasattr(held, "__length_hint__"):
        return lambda: operator.length_hint(held)
    raise UntraceableError(f"it refers to an iterator ({type(held).__name__}) that changes unseen")


def _place_of_generator(held: types.GeneratorType[Any, Any, Any]) -> list[Any]:
    frame, inner = held.gi_frame, held.gi_yieldfrom
    if frame is None:
        return []
    deeper = _place(inner)() if isinstance(inner, Iterator) else None
    return [frame.f_lasti, *frame.f_locals.values(), deeper]


def _same(first: Any, second: Any) -> bool:  # noqa: ANN401
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, np.ndarray):
        return first.shape == second.shape and first.tobytes() == second.tobytes()
    if isinstance(first, dict):
        return all(map(_same, first.values(), second.values()))
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(
            a is b or _same(a, b) for a, b in zip(first, second, strict=True)
        )
    if isinstance(first, set):
        return first == second
    return bool(first is second or (type(first) is type(second) and _equal(first, second)))


def _equal(first: Any, second: Any) -> bool:  # noqa: ANN401
    try:
        return bool(first == second)
    except (RuntimeError, TypeError, ValueError):
        return False
