"""A function of tensors as a graph of operations, without side effects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.func import functionalize
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.graph import CodeGen

from ppl_vae.inference.compilation.tracing.constants import (
    ReadingConstants,
    UntraceableError,
    WholeNumbers,
)
from ppl_vae.inference.compilation.tracing.noise import Draw, lift_draws
from ppl_vae.inference.compilation.tracing.recording import recording

aten = torch.ops.aten


@dataclass
class Graph:
    """A traced function.

    ``module`` takes the function's inputs, then the tensors that it `captured`, then one tensor
    for each of its random `draws`; it returns the function's results, then the new values of
    those inputs and captured tensors that the function changes in place.

    Attributes:
        module: the operations.
        captured: tensors that the function used but was not handed.
        draws: what makes the noise, in the order in which the function draws it.
        changed: places among inputs and captured tensors of what the function changes.
        num_inputs: how many tensors the function takes.
        num_results: how many it returns.
        kept: tensors of whole numbers whose entries are part of the graph.
    """

    module: GraphModule
    captured: list[Tensor]
    changed: list[int]
    num_inputs: int
    num_results: int
    draws: list[Draw] = field(default_factory=list)
    kept: list[WholeNumbers] = field(default_factory=list)

    @torch.no_grad()
    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """Run the operations one by one, on fresh noise; return the function's results."""
        given = [t.detach() for t in (*inputs, *self.captured)]
        results = self.module(*given, *(draw.sample() for draw in self.draws))
        for place, value in zip(self.changed, results[self.num_results :], strict=True):
            given[place].copy_(value)
        return list(results[: self.num_results])


@recording()
def trace(function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor]) -> Graph:
    """Run a function once and record every operation on tensors.

    The function really runs: what it changes in place is changed. It must take the same course
    whatever the entries of its tensors are. Tensors that it uses but is not handed are found and
    read anew at every call, so parameters of a module need not be inputs, but may be: an input
    is recognised by identity wherever the function finds it.

    Args:
        function: takes `inputs`, returns tensors. It may draw random numbers, differentiate, and
            change tensors in place.
        inputs: example tensors, of the shapes, dtypes and devices to come.

    Raises:
        UntraceableError: the course depends on a tensor's entries, or an operation cannot be
            recorded.
    """
    try:
        with ReadingConstants() as reading:
            recorded = make_fx(
                lambda *given: tuple(function(*given)), decomposition_table=_OTHERWISE
            )(*inputs)
    except UntraceableError:
        raise
    except RuntimeError as error:
        if "tracing tensor" in str(error):
            raise UntraceableError(
                "it reads a tensor's value in Python, so that its course depends on data, "
                "parameters or draws"
            ) from None
        raise
    _refuse_varying_sizes(recorded)
    captured = _captured_as_inputs(recorded)
    graph = Graph(recorded, captured, [], len(inputs), len(_results(recorded)))
    if _writes_to_inputs(recorded):
        given = [t.detach() for t in (*inputs, *captured)]
        with torch.no_grad():
            graph.module = make_fx(functionalize(recorded, remove="mutations"))(*given)
        graph.changed = _changes_as_results(graph.module)
    graph.kept = reading.kept
    held = [*inputs, *captured]
    if any(held[place] is kept.tensor for place in graph.changed for kept in graph.kept):
        raise UntraceableError("it reads a tensor's value in Python and changes it")
    graph.draws = lift_draws(graph.module)
    return graph


def _batch_norm(*args: Any) -> Any:  # noqa: ANN401
    """Normalise by an operation whose schema says that it changes the running statistics."""
    x, weight, bias, mean, variance, training, *rest = args
    if mean is None:
        return aten._native_batch_norm_legit.no_stats(x, weight, bias, training, *rest)
    return aten._native_batch_norm_legit.default(x, weight, bias, mean, variance, training, *rest)


def _bits(p: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Draw bits by the uniform noise that torch compares with `p` on a CPU.

    The noise can be drawn before the graph runs; Inductor draws single precision for doubles.
    """
    known = p.device.type == "cpu" and p.dtype in (torch.float32, torch.float64)
    if generator is not None or not known:
        return NotImplemented
    return (torch.rand(p.shape, dtype=p.dtype, device=p.device) < p).to(p.dtype)


# Operations that are recorded as others.
_OTHERWISE = {aten.native_batch_norm.default: _batch_norm, aten.bernoulli.default: _bits}


def _refuse_varying_sizes(module: GraphModule) -> None:
    for node in module.graph.nodes:
        if torch.Tag.dynamic_output_shape not in getattr(node.target, "tags", ()):
            continue
        if node.target is aten.index.Tensor:
            kinds = [i.meta["val"].dtype for i in node.args[1] if i is not None]
            if not {torch.bool, torch.uint8} & set(kinds):
                continue
        raise UntraceableError(
            f"the size of a tensor depends on data, parameters or draws ({node.target})"
        )


def _captured_as_inputs(module: GraphModule) -> list[Tensor]:
    """Make an input of every tensor that the graph holds, except for single literals."""
    graph = module.graph
    places = {n: n for n in graph.nodes if n.op == "placeholder"}
    last = list(places)[-1] if places else None
    captured: list[Tensor] = []
    new: dict[int, Node] = {}
    for node in [n for n in graph.nodes if n.op == "get_attr"]:
        tensor = getattr(module, str(node.target))
        if _written_out(module, node, tensor):
            continue
        if id(tensor) not in new:
            with graph.inserting_after(last) if last else graph.inserting_before():
                new[id(tensor)] = last = graph.placeholder(f"captured_{len(captured)}")
            last.meta["val"] = tensor.detach().to("meta")
            captured.append(tensor)
        node.replace_all_uses_with(new[id(tensor)])
        graph.erase_node(node)
    _forget_signature(module)
    return captured


def _written_out(module: GraphModule, node: Node, tensor: Tensor) -> bool:
    """Replace a literal (``torch.tensor(2.0)``) by an operation that makes it."""
    fresh = aten.lift_fresh_copy.default
    if tensor.numel() != 1 or any(user.target is not fresh for user in node.users):
        return False
    with module.graph.inserting_before(node):
        options = {"dtype": tensor.dtype, "device": tensor.device}
        literal = module.graph.call_function(
            aten.full.default, (list(tensor.shape), tensor.item()), options
        )
    for user in list(node.users):
        user.replace_all_uses_with(literal)
        module.graph.erase_node(user)
    module.graph.erase_node(node)
    return True


def _writes_to_inputs(module: GraphModule) -> bool:
    """Return whether an operation changes an input, or a view of one, in place."""
    given: set[Node] = set()
    for node in module.graph.nodes:
        if node.op == "placeholder":
            given.add(node)
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            continue
        for argument, value in zip(schema.arguments, node.args, strict=False):
            touched = set(value) if isinstance(value, (tuple, list)) else {value}
            if argument.alias_info is None or not touched & given:
                continue
            if argument.alias_info.is_write:
                return True
            given.add(node)
    return False


def _changes_as_results(module: GraphModule) -> list[int]:
    """Return new values of changed inputs instead of copying them; return the inputs' places."""
    graph = module.graph
    places = {n: place for place, n in enumerate(n for n in graph.nodes if n.op == "placeholder")}
    changed: dict[int, Node] = {}
    for node in list(graph.nodes):
        if node.target is aten.copy_.default and node.args[0] in places:
            changed[places[node.args[0]]] = node.args[1]
            node.replace_all_uses_with(node.args[1])
            graph.erase_node(node)
    output = next(iter(reversed(graph.nodes)))
    output.args = ((*_results(module), *changed.values()),)
    graph.lint()
    module.recompile()
    return list(changed)


def _results(module: GraphModule) -> tuple[Node, ...]:
    found = next(iter(reversed(module.graph.nodes))).args[0]
    return tuple(found) if isinstance(found, (tuple, list)) else (found,)


def _forget_signature(module: GraphModule) -> None:
    """Let the graph take its placeholders as plain arguments, and return a plain tuple."""
    module.graph.set_codegen(CodeGen())
    module.graph.lint()
    module.recompile()
