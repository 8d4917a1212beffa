"""Random draws taken out of a graph, so that what is left is a function of its inputs alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

aten = torch.ops.aten

# Draws that overwrite a tensor whose entries do not matter.
_IN_PLACE: set[Any] = {
    aten.normal_.default,
    aten.exponential_.default,
    aten.uniform_.default,
    aten.cauchy_.default,
    aten.log_normal_.default,
    aten.geometric_.default,
    aten.bernoulli_.float,
    aten.random_.default,
    aten.random_.to,
    getattr(aten.random_, "from"),
}
# Their forms without side effects, which give the same numbers.
_OUT_OF_PLACE: dict[Any, Any] = {
    aten.normal_functional.default: aten.normal_.default,
    aten.exponential.default: aten.exponential_.default,
    aten.uniform.default: aten.uniform_.default,
    aten.cauchy.default: aten.cauchy_.default,
    aten.log_normal.default: aten.log_normal_.default,
    aten.geometric.default: aten.geometric_.default,
    aten.bernoulli.p: aten.bernoulli_.float,
    aten.random.default: aten.random_.default,
    aten.random.to: aten.random_.to,
    getattr(aten.random, "from"): getattr(aten.random_, "from"),
}
_LIKE = {
    aten.rand_like.default,
    aten.randn_like.default,
    aten.randint_like.default,
    aten.randint_like.low_dtype,
}


@dataclass
class Draw:
    """One random draw of a graph.

    Attributes:
        operation: what draws, and is called with the tensor to overwrite (if there is one) and
            the further arguments.
        shape: of what is drawn.
        stride: likewise.
        dtype: likewise.
        device: likewise.
        overwrites: whether the operation takes a tensor to overwrite.
        copies: whether it takes a tensor of which only shape and dtype matter.
        args: its further arguments.
        kwargs: likewise.
    """

    operation: Callable[..., Tensor]
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    overwrites: bool
    copies: bool
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def empty(self) -> Tensor:
        """Return memory for one draw."""
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=self.device)

    def sample(self) -> Tensor:
        """Draw from torch's global stream."""
        if self.overwrites or self.copies:
            return self.operation(self.empty(), *self.args, **self.kwargs)
        return self.operation(*self.args, **self.kwargs)

    def fill(self, memory: Tensor) -> None:
        """Draw into `memory`, from the same stream as `sample`."""
        if self.overwrites:
            self.operation(memory, *self.args, **self.kwargs)
        else:
            memory.copy_(self.sample())


def lift_draws(module: GraphModule) -> list[Draw]:
    """Make an input of every random draw of a graph, if all of them can be.

    A draw can be if its distribution is fixed: standard noise, bits, a permutation. One whose
    arguments are computed (``bernoulli(p)``, a Gamma) cannot; then all stay, so that their order
    is kept.

    Args:
        module: a graph without side effects; it is changed.

    Returns:
        What makes the new inputs, which follow the others; empty if the draws stay.
    """
    graph = module.graph
    nodes = [n for n in graph.nodes if is_random(n)]
    found = [_draw(n) for n in nodes]
    if any(draw is None for draw in found):
        return []
    last = [n for n in graph.nodes if n.op == "placeholder"]
    for number, node in enumerate(nodes):
        with graph.inserting_after(last[-1]) if last else graph.inserting_before():
            given = graph.placeholder(f"noise_{number}")
        given.meta = dict(node.meta)
        last.append(given)
        node.replace_all_uses_with(given)
        graph.erase_node(node)
    graph.eliminate_dead_code()
    graph.lint()
    module.recompile()
    return [draw for draw in found if draw is not None]


def is_random(node: Node) -> bool:
    """Return whether an operation draws random numbers."""
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _draw(node: Node) -> Draw | None:
    value, operation = node.meta.get("val"), _OUT_OF_PLACE.get(node.target, node.target)
    overwrites, copies = operation in _IN_PLACE, node.target in _LIKE
    args = node.args[1:] if overwrites or copies else node.args
    if not isinstance(value, Tensor) or any(
        isinstance(a, Node) for a in (*args, *node.kwargs.values())
    ):
        return None
    if node.target in _IN_PLACE and len(node.all_input_nodes[0].users) > 1:
        return None  # the memory has another name, under which the draw is seen too
    return Draw(
        operation=operation,  # pyright: ignore[reportArgumentType]
        shape=tuple(value.shape),
        stride=tuple(value.stride()),
        dtype=value.dtype,
        device=value.device,
        overwrites=overwrites,
        copies=copies,
        args=tuple(args),
        kwargs=dict(node.kwargs),
    )
