"""An estimator's value and gradient as a function of its noise, for many draws at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.func import vmap
from torch.fx import GraphModule, Interpreter, Node

from ppl_vae.diagnostics.comparison.gradient_rows import Dense, Product, Rows
from ppl_vae.inference.compilation.tracing.constants import UntraceableError
from ppl_vae.inference.compilation.tracing.graph import trace
from ppl_vae.inference.compilation.tracing.noise import Draw
from ppl_vae.inference.compilation.tracing.recording import recording
from ppl_vae.seeding import reseed

aten = torch.ops.aten

# More draws at once than this holds are not faster than one by one.
AT_ONCE_BYTES = 64 * 2**20
FEWEST = 2
SAME = {torch.float64: 1e-11, torch.float32: 1e-4}


class GradientGraph:
    """The operations of one run of a program, those that do not depend on its noise done once.

    The program is run to be traced, and again on two other streams, where the graph must give the
    same. Each replicate has the noise that the program itself draws from its seed. A gradient
    that is a product of two matrices, one of them without noise, is kept as the two.

    Args:
        run: returns value and gradients, drawing from torch's global stream.
        parameters: what `run` reads in addition to its data.
        bytes_each: that one run holds at most.

    Attributes:
        at_once: the number of replicates that are passed through it together.

    Raises:
        UntraceableError: the program is not a function of its draws alone, or draws from
            distributions whose parameters are computed (a Gamma, a Bernoulli).
    """

    @recording()
    def __init__(
        self,
        run: Callable[[], list[Tensor]],
        parameters: Sequence[Tensor],
        bytes_each: int,
        device: torch.device,
    ) -> None:
        self._device = device
        graph = trace(lambda *_: run(), list(parameters))
        if graph.changed or not graph.draws:
            raise UntraceableError("its noise cannot be separated from it")
        self._draws: list[Draw] = graph.draws
        fixed = [t.detach() for t in (*parameters, *graph.captured)]
        self._places = _factorise(graph.module)
        self._module, self._constants = _folded(graph.module, fixed)
        self.at_once = AT_ONCE_BYTES // max(bytes_each, 1)
        for seed in (1, 2):
            reseed(seed, device)
            expected = run()
            values, rows = self([seed])
            dense = (row.dense() if isinstance(row, Product) else row for row in rows)
            found = [values, *(row.values for row in dense)]
            if not all(_alike(a[0], b) for a, b in zip(found, expected, strict=True)):
                raise UntraceableError("its value and gradient depend on more than its noise")

    @torch.no_grad()
    def __call__(self, seeds: Sequence[int]) -> tuple[Tensor, list[Rows]]:
        """Return values, (seeds,), and gradients."""
        parts = list(self._parts(seeds))
        varying = parts[0] if len(parts) == 1 else map(torch.cat, zip(*parts, strict=True))
        taken = iter(varying)
        tensors = [next(taken) if c is None else c for c in self._constants]
        rows = [self._rows(places, tensors, len(seeds)) for places in self._places]
        values = rows.pop(0)
        assert isinstance(values, Dense)
        return values.values, rows

    def _rows(self, places: list[int], tensors: list[Tensor], count: int) -> Rows:
        varies = [self._constants[place] is None for place in places]
        given = [tensors[place] for place in places]
        if varies == [True, False]:
            return Product(given[0], given[1], turned=False)
        if varies == [False, True]:
            return Product(given[1].mT, given[0].T, turned=True)
        value = given[0] if len(given) == 1 else given[0] @ given[1]
        return Dense(value if any(varies) else value.expand(count, *value.shape))

    def _parts(self, seeds: Sequence[int]) -> Iterator[list[Tensor]]:
        if self.at_once < FEWEST:
            for seed in seeds:
                yield [t[None] for t in self._module(*(n[0] for n in self._noise([seed])))]
            return
        for start in range(0, len(seeds), self.at_once):
            yield vmap(self._module)(*self._noise(seeds[start : start + self.at_once]))

    def _noise(self, seeds: Sequence[int]) -> list[Tensor]:
        noise = [
            torch.empty(len(seeds), *draw.shape, dtype=draw.dtype, device=draw.device)
            for draw in self._draws
        ]
        for place, seed in enumerate(seeds):
            reseed(seed, self._device)
            for memory, draw in zip(noise, self._draws, strict=True):
                draw.fill(memory[place])
        return noise


def _factorise(module: GraphModule) -> list[list[int]]:
    """Return products of matrices as their factors; return each result's places among the new."""
    output = next(iter(reversed(module.graph.nodes)))
    results: list[Node] = []
    places = []
    for node in output.args[0]:
        parts = _factors(module.graph, node) or [node]
        places.append(list(range(len(results), len(results) + len(parts))))
        results += parts
    output.args = (tuple(results),)
    module.graph.eliminate_dead_code()
    module.recompile()
    return places


def _factors(graph: torch.fx.Graph, node: Node) -> list[Node] | None:
    turned = False
    while node.target in (aten.detach.default, aten.t.default):
        turned ^= node.target is aten.t.default
        node = node.args[0]  # pyright: ignore[reportAssignmentType]
    if node.target is not aten.mm.default:
        return None
    left, right = node.args
    if not turned:
        return [left, right]  # pyright: ignore[reportReturnType]
    with graph.inserting_after(node):
        return [graph.call_function(aten.t.default, (factor,)) for factor in (right, left)]


def _folded(
    module: GraphModule, fixed: Sequence[Tensor]
) -> tuple[GraphModule, list[Tensor | None]]:
    """Return the module as a function of its last inputs, at fixed values of the first ones.

    Results that do not depend on the last inputs are returned beside it, None for the others,
    which alone are left to it.
    """
    graph = module.graph
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    known = dict(zip(inputs, fixed, strict=False))
    varying = set(inputs[len(fixed) :])
    interpreter = Interpreter(module)
    interpreter.env = dict(known)
    for node in graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        if any(n in varying for n in node.all_input_nodes):
            varying.add(node)
            continue
        interpreter.env[node] = interpreter.run_node(node)
    output = next(iter(reversed(module.graph.nodes)))
    results: tuple[Node, ...] = output.args[0]  # pyright: ignore[reportAssignmentType]
    constants = [None if n in varying else interpreter.env[n] for n in results]
    output.args = (tuple(n for n in results if n in varying),)
    return _rest(module, varying, interpreter.env), constants


def _rest(module: GraphModule, varying: set[Node], values: dict[Node, object]) -> GraphModule:
    graph, copies = torch.fx.Graph(), {}
    root = torch.nn.Module()

    def copied(node: Node) -> Node:
        if node not in copies:
            value = values[node]
            assert isinstance(value, Tensor)
            name = f"constant_{len(copies)}"
            root.register_buffer(name, value, persistent=False)
            copies[node] = graph.get_attr(name)
        return copies[node]

    for node in module.graph.nodes:
        if node in varying or node.op == "output":
            copies[node] = graph.node_copy(node, copied)
    return GraphModule(root, graph)


def _alike(first: Tensor, second: Tensor) -> bool:
    tolerance = SAME.get(second.dtype, 0.0)
    size = second.abs().max().clamp_min(1.0)
    return bool(((first - second).abs() <= tolerance * size).all())
