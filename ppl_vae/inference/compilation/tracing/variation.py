"""Which tensors of a graph have other entries in another run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import getitem

import torch
from torch.fx import Node

aten = torch.ops.aten

# Of their first argument they take no entry.
_FILLED = {
    op.default
    for op in (
        aten.new_ones,
        aten.new_zeros,
        aten.new_full,
        aten.ones_like,
        aten.zeros_like,
        aten.full_like,
    )
}


class Variation:
    """Follows entries that vary through the operations of a graph that grows.

    They pass from an operation's arguments to its results, and by a change in place to every
    tensor that shares the memory (a buffer that is filled through ``buffer[i] = value``).

    Args:
        starts: whether a node without arguments, an input or a tensor that the graph holds,
            varies.
    """

    def __init__(self, starts: Callable[[Node], bool]) -> None:
        self._starts = starts
        self._varying: set[Node] = set()
        self._memory: dict[Node, Node] = {}  # of nodes that share memory the first stands for all
        self._writers: dict[Node, list[Node]] = {}
        self._last: Node | None = None

    def of(self, node: Node) -> bool:
        """Return whether the entries of a node's result vary, after all that was done so far."""
        for each in self._new(node):
            self._follow(each)
        return node in self._varying or self._memory[node] in self._varying

    def sources(self, node: Node) -> Iterator[Node]:
        """Yield the nodes without arguments that the entries of a node's result come from."""
        pending, seen = [node], {node}
        while pending:
            node = pending.pop()
            before = [*node.all_input_nodes, *self._writers.get(self._memory[node], ())]
            if not before:
                yield node
            new = set(before) - seen
            seen |= new
            pending += new

    def _new(self, node: Node) -> Iterator[Node]:
        root = node.graph._root
        current = root.next if self._last is None else self._last.next
        while current is not root:
            self._last = current
            yield current
            current = current.next

    def _follow(self, node: Node) -> None:
        self._memory[node] = node
        written: list[Node] = []
        for argument, value in _arguments(node):
            if argument is None or argument.alias_info is None:
                continue
            for each in value if isinstance(value, (tuple, list)) else [value]:
                if isinstance(each, Node):
                    self._memory[node] = self._memory[each]
                    written += [each] if argument.alias_info.is_write else []
        if node.target is getitem:  # one of several results
            self._memory[node] = self._memory[node.all_input_nodes[0]]
        varies = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        if node.op in ("placeholder", "get_attr"):
            varies = self._starts(node)
        elif node.target not in _FILLED:
            varies = varies or any(
                each in self._varying or self._memory[each] in self._varying
                for each in node.all_input_nodes
            )
        for each in written:
            self._writers.setdefault(self._memory[each], []).append(node)
        if varies:
            self._varying |= {node, *(self._memory[each] for each in written)}


def _arguments(node: Node) -> Iterator[tuple[torch.Argument | None, object]]:
    """Yield what a node was given, beside the declarations of its operation."""
    schema = getattr(node.target, "_schema", None)
    declared = schema.arguments if schema is not None else []
    yield from zip(declared, node.args, strict=False)
    by_name = {argument.name: argument for argument in declared}
    for name, value in node.kwargs.items():
        yield by_name.get(name), value
