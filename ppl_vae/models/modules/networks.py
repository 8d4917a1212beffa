"""Somebody's encoder or decoder as it is called: which modules are in it, and how they run."""

from __future__ import annotations

import copy
import functools
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ppl_vae import checks

Network = Callable[..., Any]


def called(name: str, network: Any) -> tuple[Network, list[nn.Module]]:  # noqa: ANN401
    """Return what to call, and the modules whose parameters it uses.

    `network` is a module, a method of one, or a function that holds some. A copy of what to call,
    by ``copy.deepcopy``, calls copies of the modules.

    Raises:
        TypeError: it cannot be called, or holds trained tensors that belong to no module.
        ValueError: it has parameters without a shape.
    """
    # What torch.compile makes of a module or function holds the original.
    network = getattr(network, "_torchdynamo_orig_callable", network)
    network = getattr(network, "_orig_mod", network)
    if not callable(network) or isinstance(network, type):
        raise checks.type_error(
            f"{name} as an nn.Module, a method of one, or a function",
            network.__name__ if isinstance(network, type) else type(network).__name__,
            "Pass what can be called with a batch.",
        )
    modules: list[nn.Module] = []
    for part in _parts(network, set()):
        if isinstance(part, Tensor):
            raise checks.type_error(
                f"a function for {name} whose trained tensors are parameters of an nn.Module",
                f"one that uses a tensor of shape {tuple(part.shape)} by itself",
                "Make it an nn.Parameter of a module, or detach it.",
            )
        part = getattr(part, "_orig_mod", part)
        if not any(part is each for each in modules):
            modules.append(part)
    for parameter in (p for module in modules for p in module.parameters()):
        if isinstance(parameter, nn.UninitializedParameter):
            raise checks.value_error(
                f"{name} with parameters that have a shape",
                "lazy ones that have none yet",
                "Run encoder and decoder once on a batch of data, then make the pair.",
            )
    owner = getattr(network, "__self__", None)
    if isinstance(network, nn.Module) or isinstance(owner, nn.Module):
        return network, modules
    return _Function(name, network, modules, modules), modules


def run(network: Network, batch: Tensor) -> Any:  # noqa: ANN401
    """Call a network, without torch.compile where parts of it are compiled.

    Compiled code cannot be run under ``vmap`` or be traced, and is compiled again for every size.
    """
    if "torch._dynamo" not in sys.modules or torch.compiler.is_compiling():
        return network(batch)
    with torch.compiler.set_stance("force_eager"):
        return network(batch)


class _Function:
    """A function that holds modules; while a copy of it runs, they are the copy's own."""

    def __init__(
        self, name: str, function: Network, held: list[nn.Module], modules: list[nn.Module]
    ) -> None:
        self._name, self._function, self._held, self._modules = name, function, held, modules
        self._is_seen_through = False

    def __deepcopy__(self, memo: dict[int, Any]) -> _Function:
        modules = copy.deepcopy(self._modules, memo)
        return _Function(self._name, self._function, self._held, modules)

    def __call__(self, batch: Tensor) -> Any:  # noqa: ANN401
        before = [vars(module) for module in self._held]
        try:
            for held, module in zip(self._held, self._modules, strict=True):
                held.__dict__ = vars(module)
            output = self._function(batch)
            if not self._is_seen_through:
                self._look_through(output, batch)
            return output
        finally:
            for held, state in zip(self._held, before, strict=True):
                held.__dict__ = state

    def _look_through(self, output: object, batch: Tensor) -> None:
        ours = {id(p) for module in self._modules for p in module.parameters()}
        reached = {id(parameter) for parameter in _trained(output, batch)}
        if not reached <= ours:
            raise checks.value_error(
                f"the {self._name} to use modules that the function refers to by name",
                f"{len(reached - ours)} parameters of others",
                "Pass the nn.Module itself, or a method of it.",
            )
        self._is_seen_through = bool(reached)


def _parts(value: Any, visited: set[int]) -> Iterator[Any]:  # noqa: ANN401
    """Yield the modules, and the trained tensors outside of them, that a function refers to."""
    if id(value) in visited or isinstance(value, type):
        return
    visited.add(id(value))
    held: list[Any] = []
    if isinstance(value, nn.Module) or (isinstance(value, Tensor) and value.requires_grad):
        yield value
    elif isinstance(value, MethodType):
        held = [value.__self__]
        if not isinstance(value.__self__, nn.Module):
            held.append(value.__func__)
    elif isinstance(value, functools.partial):
        held = [value.func, *value.args, *value.keywords.values()]
    elif isinstance(value, FunctionType):
        if value.__module__.partition(".")[0] not in ("torch", "pyro"):
            names = set(_names(value.__code__)) & set(value.__globals__)
            cells = value.__closure__ or ()
            held = [value.__globals__[name] for name in sorted(names)]
            held += [cell.cell_contents for cell in cells] + list(value.__defaults__ or ())
    elif isinstance(value, (list, tuple, dict)):
        held = list(value.values() if isinstance(value, dict) else value)
    else:
        held = [v for v in getattr(value, "__dict__", {}).values() if isinstance(v, nn.Module)]
    for each in held:
        each = getattr(each, "_torchdynamo_orig_callable", each)
        yield from _parts(each, visited)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)


def _trained(output: object, batch: Tensor) -> Iterator[nn.Parameter]:
    """Yield the parameters to which gradients of `output` flow, but not through `batch`."""
    ahead = [t.grad_fn for t in tree_leaves(output) if isinstance(t, Tensor)]
    visited = {*ahead, batch.grad_fn}
    while ahead:
        node: Any = ahead.pop()
        if node is None:
            continue
        if isinstance(getattr(node, "variable", None), nn.Parameter):
            yield node.variable
        new = {following for following, _ in node.next_functions} - visited
        visited |= new
        ahead += new
