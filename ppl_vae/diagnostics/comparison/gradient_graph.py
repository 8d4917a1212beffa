"""An estimator's value and gradient as a function of its noise, for many draws at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.func import vmap
from torch.fx import GraphModule, Interpreter, Node

from ppl_vae.inference.compilation.constants import UntraceableError
from ppl_vae.inference.compilation.graph import trace
from ppl_vae.inference.compilation.noise import Draw
from ppl_vae.seeding import reseed

# Draws whose tensors together are larger than a processor's cache are faster one by one.
CACHE_BYTES = 8 * 2**20
FEWEST = 8
SAME = {torch.float64: 1e-11, torch.float32: 1e-4}


class GradientGraph:
    """The operations of one run of a program, those that do not depend on its noise done once.

    The program is run to be traced, and again on two other streams: the graph must give what it
    gives. Replicate by replicate the noise is the program's own, seed by seed.

    Args:
        run: returns value and gradients, drawing from torch's global stream.
        parameters: what `run` reads beside its data.
        bytes_each: that one run holds at most.

    Raises:
        UntraceableError: the program is not a function of its draws alone, or draws from
            distributions whose parameters are computed (a Gamma, a Bernoulli).
    """

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
        self._module = _folded(graph.module, fixed)
        self._at_once = CACHE_BYTES // max(bytes_each, 1)
        for seed in (1, 2):
            reseed(seed, device)
            expected = run()
            found = self([seed])
            if not all(_alike(a[0], b) for a, b in zip(found, expected, strict=True)):
                raise UntraceableError("its value and gradient depend on more than its noise")

    @torch.no_grad()
    def __call__(self, seeds: Sequence[int]) -> list[Tensor]:
        """Return values and gradients, each with a first dimension over the seeds."""
        if self._at_once < FEWEST:
            rows = [self._module(*(n[0] for n in self._noise([seed]))) for seed in seeds]
            return [torch.stack(column) for column in zip(*rows, strict=True)]
        parts = [
            vmap(self._module)(*self._noise(seeds[start : start + self._at_once]))
            for start in range(0, len(seeds), self._at_once)
        ]
        return [torch.cat(column) for column in zip(*parts, strict=True)]

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


def _folded(module: GraphModule, fixed: Sequence[Tensor]) -> GraphModule:
    """Return the module as a function of its last inputs, at fixed values of the first ones."""
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
    return _rest(module, varying, interpreter.env)


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
