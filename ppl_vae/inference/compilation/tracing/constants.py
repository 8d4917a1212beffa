"""Numbers that a program may read from its tensors while it is traced, and those it may not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import CodeType
from typing import Any

import torch
from pyro.infer.util import torch_item
from pyro.util import warn_if_nan
from torch.fx import Node
from torch.fx.experimental.proxy_tensor import (
    disable_proxy_modes_tracing,
    get_proxy_mode,
    get_proxy_slot,
)
from torch.overrides import TorchFunctionMode

from ppl_vae.elbos.sites.dependencies import TO_PYTHON
from ppl_vae.inference.compilation.tracing.selection import select
from ppl_vae.inference.compilation.tracing.variation import Variation

# What their sizes depend on are entries.
_PLACES = {"nonzero", "argwhere"}
# Where Pyro's estimators read numbers only to add them up, or to warn of NaN. A loss function of a
# user's own calls these, where `deferred` cannot replace them.
_ADDS_UP, _WARNS = torch_item.__code__, warn_if_nan.__code__


class UntraceableError(Exception):
    """A program cannot be traced; the text says why, for the one message that tells the user."""


class WholeNumbers:
    """A tensor of whole numbers, or of bits, whose entries are part of a graph."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor, self._version = tensor, tensor._version
        self._old = tensor.clone()

    def is_current(self) -> bool:
        """Return whether the entries are as they were."""
        if self.tensor.is_cuda:  # a look at them is a wait
            return self.tensor._version == self._version
        return torch.equal(self.tensor, self._old)


class ReadingConstants(TorchFunctionMode):
    """Lets a traced program read a tensor as a Python value only if it never varies.

    A tensor that was made from nothing but sizes and literals (``torch.arange``, the indices of a
    plate that is a loop) has the same value in every run, so reading it is harmless, and so is
    asking where it is not zero, or selecting by it. So is reading whole numbers and bits that the
    program keeps (the permutation of a flow, the mask of a coupling layer) while they stay as they
    are. Reading anything else that depends on data, parameters or draws would freeze the value of
    this one run in the graph.

    Attributes:
        kept: the program's tensors of whole numbers and bits that were read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[WholeNumbers] = []
        self._variation: Variation | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        name = getattr(func, "__name__", "")
        if get_proxy_mode() is None:
            return func(*args, **(kwargs or {}))
        if name == "__getitem__":
            return select(args[0], self._selection(args[1]))
        if name in _PLACES and not self._varies(args[0]):
            with disable_proxy_modes_tracing():
                return func(*args, **(kwargs or {}))
        if name == "register_hook" and _reader() is _WARNS:
            return None
        if name not in TO_PYTHON:
            return func(*args, **(kwargs or {}))
        reader = _reader()
        if reader is _WARNS:
            return False
        if reader is _ADDS_UP:  # whoever needs a number of what is returned is refused then
            return args[0].detach()
        for value in args:
            if isinstance(value, torch.Tensor) and self._varies(value):
                raise UntraceableError(
                    f"it reads a tensor's value in Python ({name.strip('_')}), so that its course "
                    "depends on data, parameters or draws"
                )
        with disable_proxy_modes_tracing():
            return func(*args, **(kwargs or {}))

    def _selection(self, index: Any) -> Any:  # noqa: ANN401
        """Return an index in which single numbers that never vary are no tensors, bits numbers."""
        if isinstance(index, tuple):
            found: list[Any] = []
            for part in index:
                new = self._selection(part)
                found.extend(new if _is_bits(part) and isinstance(new, tuple) else [new])
            return tuple(found)
        if not isinstance(index, torch.Tensor) or not (_is_bits(index) or _is_single(index)):
            return index
        if self._varies(index):
            return index
        with disable_proxy_modes_tracing():
            return index.nonzero(as_tuple=True) if _is_bits(index) else int(index)

    def _varies(self, tensor: torch.Tensor) -> bool:
        mode = get_proxy_mode()
        assert mode is not None  # the caller has seen it
        found = get_proxy_slot(tensor, mode.tracer, None)
        if found is None:
            return self._is_not_kept(tensor)
        root, node = mode.tracer.root, found.proxy.node
        if self._variation is None:
            self._variation = Variation(partial(_starts, root))
        if self._variation.of(node):
            return True
        for source in self._variation.sources(node):
            if source.op == "get_attr" and not _is_literal(source):
                self._is_not_kept(_held(root, source))
        return False

    def _is_not_kept(self, tensor: torch.Tensor) -> bool:
        """Return whether the program may change a tensor of its own, which else is watched."""
        if not _is_whole(tensor):
            return True
        if not any(kept.tensor is tensor for kept in self.kept):
            with disable_proxy_modes_tracing():
                self.kept.append(WholeNumbers(tensor))
        return False


def _reader() -> CodeType | None:
    """Return the code that asked for an operation, outside of torch and of modes like this one."""
    frame = sys._getframe(1)
    while frame is not None and (
        frame.f_globals.get("__name__", "").partition(".")[0] == "torch"
        or frame.f_code.co_name == "__torch_function__"
    ):
        frame = frame.f_back
    return frame and frame.f_code


def _is_whole(tensor: torch.Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex())


def _is_bits(index: Any) -> bool:  # noqa: ANN401
    return isinstance(index, torch.Tensor) and index.dtype == torch.bool and index.dim() > 0


def _is_single(index: torch.Tensor) -> bool:
    return index.dim() == 0 and index.dtype != torch.bool and _is_whole(index)


def _starts(root: Any, node: Node) -> bool:  # noqa: ANN401
    """Return whether what the graph is given, or holds, varies."""
    if node.op == "placeholder":
        return True
    return not (_is_literal(node) or _is_whole(_held(root, node)))


def _held(root: Any, node: Node) -> torch.Tensor:  # noqa: ANN401
    return getattr(root, str(node.target))


def _is_literal(node: Node) -> bool:
    """Return whether a constant was written into the program (``torch.tensor(2.0)``)."""
    fresh = torch.ops.aten.lift_fresh_copy.default
    return node.op == "get_attr" and all(user.target is fresh for user in node.users)
