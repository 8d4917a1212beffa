"""What compiling a graph costs, and after how many of its steps that is repaid.

Estimates, from the operations alone: a run that is repeated, or stopped and resumed, compiles
at the same step.
"""

from __future__ import annotations

from torch import Tensor
from torch.fx import GraphModule, Node
from torch.utils.flop_counter import flop_registry

# Seconds that Inductor takes to begin and for an operation, on two cores and without a cache.
_BEGIN, _COMPILE = 4.0, 0.1
# Seconds for an operation: for its call, alone and with Pyro and autograd around it, and for each
# entry that it computes.
_CALL, _CALL_BY_PYRO, _ENTRY = 1e-5, 2e-5, 2e-10
# Floating-point operations of matrix products in a second.
_RATE = 3e11
# Steps in one call where a step is so small that calling it costs more than doing it.
_TINY, _MOST_OPERATIONS = 20_000, 400
# An optimiser's operations for a parameter: Adam's.
_UPDATE = 14


def operations(module: GraphModule) -> list[Node]:
    """Return the operations of a graph."""
    return [node for node in module.graph.nodes if node.op == "call_function"]


def num_operations(module: GraphModule, updated: int) -> int:
    """Return how many operations a step has whose optimiser changes `updated` parameters."""
    return len(operations(module)) + _UPDATE * updated


def num_entries(node: Node) -> int:
    """Return how many numbers an operation computes."""
    value = node.meta.get("val")
    return value.numel() if isinstance(value, Tensor) else 0


def steps_at_once(nodes: list[Node]) -> int:
    """Return how many steps of these operations to take in one call: more than one if tiny."""
    if sum(map(num_entries, nodes)) > _TINY:
        return 1
    return max(1, _MOST_OPERATIONS // len(nodes))


def steps_to_repay(module: GraphModule, *, share: float, traced: bool) -> int:
    """Return after how many steps compilation takes no more than a share of the time so far.

    Args:
        module: one step.
        share: 0.3 makes no run more than 1.3 times as long as without a compiler, however soon
            after the compilation it ends.
        traced: whether the steps until then are the graph's operations, one by one, and not those
            of the program.
    """
    nodes = operations(module)
    call = _CALL if traced else _CALL_BY_PYRO
    step = call * len(nodes) + sum(_ENTRY * num_entries(node) + _products(node) for node in nodes)
    return int((_BEGIN + _COMPILE * len(nodes)) / (share * step))


def _products(node: Node) -> float:
    """Return the seconds of the products of an operation's numbers: 0 if it makes no sums."""
    count = flop_registry.get(getattr(node.target, "overloadpacket", None))
    if count is None:
        return 0.0
    args = [a.meta.get("val") if isinstance(a, Node) else a for a in node.args]
    return count(*args, **node.kwargs, out_val=node.meta["val"]) / _RATE
