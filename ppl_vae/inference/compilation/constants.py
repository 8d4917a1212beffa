"""Numbers that a program may read from its tensors while it is traced, and those it may not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Node
from torch.fx.experimental.proxy_tensor import (
    disable_proxy_modes_tracing,
    get_proxy_mode,
    get_proxy_slot,
)
from torch.overrides import TorchFunctionMode

# What makes Python values of a tensor's entries.
_LEAVING = {
    *("item", "tolist", "numpy", "__array__", "__dlpack__", "equal", "allclose", "is_nonzero"),
    *("__bool__", "__float__", "__int__", "__index__", "__complex__", "__contains__"),
}


class UntraceableError(Exception):
    """A program cannot be traced; the text says why, for the one message that tells the user."""


class ReadingConstants(TorchFunctionMode):
    """Lets a traced program read a tensor as a Python value only if it never varies.

    A tensor that was made from nothing but sizes and literals (``torch.arange``, the indices of a
    plate that is a loop) has the same value in every run, so reading it is harmless. Reading
    anything that depends on data, parameters or draws would freeze the value of this one run in
    the graph.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        name = getattr(func, "__name__", "")
        if name not in _LEAVING or get_proxy_mode() is None:
            return func(*args, **(kwargs or {}))
        for value in args:
            if isinstance(value, torch.Tensor) and _varies(value):
                raise UntraceableError(
                    f"it reads a tensor's value in Python ({name.strip('_')}), so that its course "
                    "depends on data, parameters or draws"
                )
        with disable_proxy_modes_tracing():
            return func(*args, **(kwargs or {}))


def _varies(tensor: torch.Tensor) -> bool:
    mode = get_proxy_mode()
    found = get_proxy_slot(tensor, mode.tracer, None) if mode is not None else None
    if found is None:
        # Not seen yet: a tensor of the program's own, whose entries it may change any time.
        return True
    pending: list[Node] = [found.proxy.node]
    seen: set[Node] = set()
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.op in ("placeholder", "get_attr") and not _is_literal(node):
            return True
        tags = getattr(node.target, "tags", ())
        if torch.Tag.nondeterministic_seeded in tags:
            return True
        pending += node.all_input_nodes
    return False


def _is_literal(node: Node) -> bool:
    """Return whether a constant was written into the program (``torch.tensor(2.0)``)."""
    fresh = torch.ops.aten.lift_fresh_copy.default
    return node.op == "get_attr" and all(user.target is fresh for user in node.users)
