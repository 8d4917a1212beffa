"""Notices when a program's own Python state changes between two steps."""

from __future__ import annotations

import collections
import copy
import functools
import sys
import types
from collections.abc import Iterable
from typing import Any

import torch
from pyro.infer import SVI
from pyro.infer.autoguide.guides import AutoGuide
from pyro.poutine.lift_messenger import LiftMessenger
from pyro.poutine.trace_messenger import TraceMessenger
from torch import Tensor
from torch.distributions import Transform

from ppl_vae.inference.compilation.tracing.constants import UntraceableError
from ppl_vae.inference.compilation.tracing.contents import (
    MISSING,
    Contents,
    at,
    contents,
    is_cell,
    put_back,
)

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)
_FOREIGN = {
    "torch",
    "pyro",
    "ppl_vae",
    "numpy",
    "math",
    "builtins",
    "functools",
    "itertools",
    "collections",
}
# What runs a program and is no part of it; a test's ``self`` leads to all that pytest holds.
_RUNNERS = {"unittest", "_pytest", "pytest", "pluggy", "logging"}
# How attributes begin that Pyro's own objects fill anew in every call, before they read them.
_FILLED_ANEW: tuple[tuple[type, str], ...] = (
    (AutoGuide, "plates"),
    (TraceMessenger, "trace"),
    (LiftMessenger, "_samples_cache"),
    (Transform, "_cached_"),
    (Transform, "_intermediates_cache"),
)
_MAX_ENTRIES = 5000
# Of plain values, from this length on, a list or dictionary is compared with a copy.
_LONG = 100


class Watch:
    """What a program refers to besides its arguments, as it was when it was traced.

    A graph holds Python numbers, flags and the choice of tensors as they were: a scale that a
    closure refers to, a module's train/eval mode, an attribute that names another tensor. Here
    are recorded the variables that functions close over or find among their globals and defaults,
    and the attributes of the objects they belong to. What a library keeps is not looked at.

    Args:
        roots: functions, methods, modules or other objects.

    Raises:
        UntraceableError: there are too many values to look at in every step.
    """

    def __init__(self, roots: Iterable[object]) -> None:
        self._entries: list[tuple[Any, Any, Any, bool]] = []
        self._sizes: list[tuple[Any, Any, str]] = []
        self._contents: list[Contents] = []
        self._long: list[tuple[Any, Any, list[type]]] = []
        self._seen: dict[int, object] = {}
        self._pending: list[object] = list(roots)
        while self._pending and len(self._entries) < _MAX_ENTRIES:
            self._visit(self._pending.pop())
        if self._pending:
            raise UntraceableError(
                f"it refers to more than {_MAX_ENTRIES} Python values; keep numbers in tensors"
            )
        self._keep = list(self._seen.values())

    def changed(self, *, by_a_run: bool = True) -> str | None:
        """Return the name of something that is not as it was, or None.

        Of random streams only `by_a_run` of the program: between runs others may draw from them.
        """
        for holder, key, old, plain in self._entries:
            new = at(holder, key)
            if new is not old and not (plain and type(new) is type(old) and new == old):
                return "a closed-over variable" if is_cell(holder) else str(key)
        for held, old, kinds in self._long:
            if held != old or kinds != _kinds(held):
                return f"an entry of a {type(held).__name__}"
        for held in self._contents:
            if (by_a_run or not held.is_stream) and held.changed():
                return held.name
        return next((name for held, old, name in self._sizes if len(held) != len(old)), None)

    def restore(self) -> None:
        """Put back what variables, lists and dictionaries held, and take out what is new."""
        for holder, key, old, _ in self._entries:
            if is_cell(holder):
                holder.cell_contents = old
            elif isinstance(holder, dict) and at(holder, key) is not old:
                holder[key] = old
        for held, old, _ in self._sizes:
            put_back(held, old)
        for held, old, _ in self._long:
            held.clear()
            (held.update if isinstance(held, dict) else held.extend)(old)
        for held in self._contents:
            held.restore()

    def filled_since(self, before: Watch) -> list[object]:
        """Return the values that are new since an earlier watch of the same roots, in order."""
        known = {(id(holder), key): value for holder, key, value, _ in before._entries}
        others = {held.place for held in before._contents}
        others |= {id(held) for held, *_ in before._long}
        found = [
            value
            for holder, key, value, plain in self._entries
            if (plain or isinstance(value, Tensor))
            and known.get((id(holder), key), MISSING) is not value
        ]
        for held in self._contents:
            found += [] if held.place in others else held.values
        return [*found, *(held for held, *_ in self._long if id(held) not in others)]

    def _visit(self, item: object) -> None:
        if isinstance(item, (*_PLAIN, Tensor)) or id(item) in self._seen:
            return
        if isinstance(item, SVI):  # a trainer's own: its counts change at each step
            return
        if _root(type(item).__module__) in _RUNNERS:
            return
        self._seen[id(item)] = item
        hidden = contents(item)
        if hidden is not None:
            self._contents.append(hidden)
        if isinstance(item, (set, collections.deque)):
            self._pending += item
        elif isinstance(item, types.MethodType):
            self._pending += [item.__self__, item.__func__]
        elif isinstance(item, types.FunctionType):
            self._visit_function(item)
        elif isinstance(item, (list, tuple, dict)) and _is_long(item):
            if not isinstance(item, tuple):
                self._long.append((item, copy.copy(item), _kinds(item)))
        elif isinstance(item, (list, tuple)):
            self._sizes.append((item, list(item), "the length of a list"))
            for number, value in enumerate(item):
                self._record(item, number, value)
        elif isinstance(item, dict):
            self._sizes.append((item, dict(item), "the number of a dictionary's entries"))
            for key, value in item.items():
                self._record(item, key, value)
        elif hasattr(item, "__dict__") and not isinstance(item, (type, types.ModuleType)):
            self._visit_object(item)

    def _visit_object(self, item: Any) -> None:  # noqa: ANN401
        if not _is_foreign(type(item).__module__):
            self._sizes.append(
                (vars(item), dict(vars(item)), "the number of an object's attributes")
            )
        filled_anew = [name for cls, name in _FILLED_ANEW if isinstance(item, cls)]
        for key, value in vars(item).items():
            if not key.startswith(("_pyro", *filled_anew)) and key != "unconstrained":
                self._record(vars(item), key, value)
        if isinstance(item, functools.partial):
            self._pending += [item.func, item.args, item.keywords]
        for cls in type(item).__mro__:
            if _is_foreign(cls.__module__):
                continue
            for value in vars(cls).values():
                value = getattr(value, "__func__", getattr(value, "fget", value))
                if isinstance(value, types.FunctionType):
                    self._pending.append(value)

    def _visit_function(self, function: types.FunctionType) -> None:
        self._pending.append(getattr(function, "__wrapped__", None))
        for cell in function.__closure__ or ():
            self._record_cell(cell)
        if _root(function.__module__ or "") in _FOREIGN | _RUNNERS | sys.stdlib_module_names:
            return
        self._pending += [function.__defaults__, function.__kwdefaults__]
        for name in _names(function.__code__):
            space = function.__globals__
            if name not in space:
                continue
            value = space[name]
            if isinstance(value, types.ModuleType):
                if not _is_foreign(value.__name__):
                    self._visit_module(value, _names(function.__code__))
            else:
                self._record(space, name, value)

    def _visit_module(self, module: types.ModuleType, names: set[str]) -> None:
        for name in names & set(vars(module)):
            if not isinstance(vars(module)[name], types.ModuleType):
                self._record(vars(module), name, vars(module)[name])

    def _record(self, holder: Any, key: Any, value: object) -> None:  # noqa: ANN401
        if isinstance(value, types.BuiltinFunctionType) or isinstance(value, type):
            return
        self._entries.append((holder, key, value, isinstance(value, _PLAIN)))
        self._pending.append(value)

    def _record_cell(self, cell: types.CellType) -> None:
        try:
            value = cell.cell_contents
        except ValueError:
            return
        self._entries.append((cell, None, value, isinstance(value, _PLAIN)))
        self._pending.append(value)


def _names(code: types.CodeType) -> set[str]:
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _names(constant)
    return found


def _root(module: str) -> str:
    return module.partition(".")[0]


def _is_foreign(module: str) -> bool:
    return _root(module) in _FOREIGN


def _values(item: Any) -> Iterable[object]:  # noqa: ANN401
    return item.values() if isinstance(item, dict) else item


def _kinds(item: Any) -> list[type]:  # noqa: ANN401
    return list(map(type, _values(item)))


def _is_long(item: Any) -> bool:  # noqa: ANN401
    """Return whether a list, tuple or dictionary holds many plain values and nothing else."""
    return len(item) >= _LONG and all(isinstance(value, _PLAIN) for value in _values(item))
