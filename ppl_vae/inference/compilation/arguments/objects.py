"""Arguments that are neither tensors nor plain values: they are known by identity, and watched."""

from __future__ import annotations

import types
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

PLAIN = (bool, int, float, complex, str, bytes, type(None), range)
PLAIN += (torch.dtype, torch.device, torch.Size)
# Without attributes that count.
_BARE = (type, types.FunctionType, types.BuiltinFunctionType)
_NO_STATE = {"__dict__", "__weakref__"}


class Identity:
    """A key for one object, whatever its own equality; it keeps the object alive."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __hash__(self) -> int:
        return id(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and other._value is self._value


def key_of(value: object) -> Any:  # noqa: ANN401
    """Return a key for a value that a graph does not take as an input."""
    if isinstance(value, PLAIN):
        return type(value), value
    if isinstance(value, types.MethodType):  # made anew whenever it is looked up
        return Identity(value.__self__), Identity(value.__func__)
    return Identity(value)


def strange_parts(values: Iterable[object]) -> set[str]:
    """Return the types of what may change without a watch that sees it: arrays, iterators.

    The parts of an object are its attributes, and those of lists, tuples and dictionaries what
    they hold.
    """
    found, seen, pending = set(), set(), list(values)
    while pending:
        value = pending.pop()
        if isinstance(value, (*PLAIN, Tensor, *_BARE)) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, types.MethodType):
            pending.append(value.__self__)
        elif type(value) is partial:
            pending += [value.func, value.args, value.keywords, vars(value)]
        elif isinstance(value, PackedSequence):  # an operation reads its sizes where none sees it
            found.add(type(value).__name__)
        elif isinstance(value, (list, tuple, dict)) and not getattr(value, "__dict__", None):
            pending += value.values() if isinstance(value, dict) else value
        elif isinstance(value, nn.Module):  # what torch keeps there is its own affair
            pending += value.children()
            pending += [v for k, v in vars(value).items() if not k.startswith("_")]
        elif _is_visible(value):
            pending += vars(value).values()
        else:
            found.add(type(value).__name__)
    return found


def _is_visible(value: object) -> bool:
    """Return whether all that an object holds is in its ``__dict__``."""
    hidden = (types.GetSetDescriptorType, types.MemberDescriptorType)
    return hasattr(value, "__dict__") and all(
        "__module__" in vars(cls)
        and not any(isinstance(v, hidden) for k, v in vars(cls).items() if k not in _NO_STATE)
        for cls in type(value).__mro__
        if cls not in (object, types.SimpleNamespace)
    )


class _Partial:
    """A ``functools.partial`` among the arguments, whose own arguments are arguments too."""

    def __init__(self, value: partial[Any]) -> None:
        self.children = [value.func, *opened(value.args), opened(value.keywords)]


def opened(arguments: Any) -> Any:  # noqa: ANN401
    """Return arguments in which ``tree_flatten`` sees what a ``functools.partial`` is made of.

    A program is often called with one that is made anew for each step, from a number.
    """
    return pytree.tree_map(_open, arguments)


def _open(value: object) -> object:
    return _Partial(value) if type(value) is partial and not vars(value) else value


def _close(children: Iterable[Any], _: object) -> partial[Any]:
    function, *args, keywords = children
    return partial(function, *args, **keywords)


pytree.register_pytree_node(_Partial, lambda value: (value.children, None), _close)
