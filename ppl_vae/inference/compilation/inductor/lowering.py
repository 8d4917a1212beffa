"""From a graph to machine code, by Inductor."""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from logging import ERROR, getLogger
from typing import Any

import torch
from torch import Tensor
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from ppl_vae import checks
from ppl_vae.inference.compilation.inductor.reuse import once
from ppl_vae.inference.compilation.inductor.whole import leave_whole
from ppl_vae.inference.compilation.tracing.constants import UntraceableError
from ppl_vae.inference.compilation.tracing.graph import trace
from ppl_vae.inference.compilation.tracing.recording import recording

log = getLogger("ppl_vae.inference")

BACKENDS = ("inductor", "eager")
Tensors = Sequence[Tensor]
# Draws are lifted out; those that cannot be must give what eager execution gives.
_SETTINGS: dict[str, Any] = {"fallback_random": True}


def can_compile(device: torch.device) -> bool:
    """Return whether what Inductor needs for `device` is there: a C++ compiler, or Triton."""
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        return has_triton()
    chosen = os.environ.get("CXX")
    return any(map(shutil.which, [chosen] if chosen else ["g++", "clang++", "cl"]))


@recording()
def lower(
    function: Callable[..., Any], inputs: Tensors, *, name: str = "a function"
) -> Callable[[list[Tensor]], Tensors]:
    """Compile a function of tensors for tensors like `inputs`.

    Args:
        function: takes the inputs, returns tensors; it may change the inputs in place.
        inputs: examples, without gradients.
        name: for the log.

    Returns:
        A function of a list of tensors.

    Raises:
        UntraceableError: it cannot be compiled here.
    """
    device = inputs[0].device if inputs else torch.device("cpu")
    if not can_compile(device):
        missing = "no Triton" if device.type == "cuda" else "no C++ compiler"
        raise UntraceableError(f"{missing} was found")
    began = time.perf_counter()
    try:
        with torch.no_grad(), warnings.catch_warnings(), _without_a_word_on_cuda():
            from torch._inductor.compile_fx import compile_fx

            warnings.simplefilter("ignore")
            recorded = make_fx(lambda *given: tuple(function(*given)), tracing_mode="fake")(
                *inputs
            )
            _lay_out_gradients(recorded)
            if device.type == "cpu":
                leave_whole(recorded)

            def compiling() -> Any:  # noqa: ANN401
                # With a shape environment torch keeps what it has compiled for the next process.
                with tracing(TracingContext(FakeTensorMode(shape_env=ShapeEnv()))):
                    return compile_fx(recorded, list(inputs), config_patches=_SETTINGS)

            made = once(recorded, inputs, compiling)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UntraceableError(f"Inductor failed ({reason})") from error
    log.info("compiled %s in %.1f s", name, time.perf_counter() - began)
    return lambda given: made(*given)


@contextmanager
def _without_a_word_on_cuda() -> Iterator[None]:
    """Keep torch's builder of extensions from telling where it would look for CUDA."""
    builder = getLogger("torch.utils.cpp_extension")
    level = builder.level
    builder.setLevel(ERROR)
    try:
        yield
    finally:
        builder.setLevel(level)


def _lay_out_gradients(module: GraphModule) -> None:
    """Compute the transpose of a product as a product, which then lies in memory as its reader.

    The derivative by a weight is made transposed; the optimiser would read it across.
    """
    aten = torch.ops.aten
    graph = module.graph
    for node in list(graph.nodes):
        if node.target not in (aten.t.default, aten.transpose.int):
            continue
        product = node.args[0]
        if product.target is not aten.mm.default or len(product.users) > 1:
            continue
        with graph.inserting_before(node):
            left, right = (graph.call_function(aten.t.default, (a,)) for a in product.args)
            new = graph.call_function(aten.mm.default, (right, left))
        node.replace_all_uses_with(new)
        graph.erase_node(node)
        graph.erase_node(product)
    graph.lint()
    module.recompile()


class Compiled:
    """A compiled function that draws fresh noise at every call; see `compiled`."""

    def __init__(
        self, function: Callable[..., Tensors], inputs: Tensors, *, backend: str = "inductor"
    ) -> None:
        checks.name("backend", backend, BACKENDS)
        with torch.enable_grad():
            self.graph = trace(function, inputs)
        self._run = None
        if backend == "inductor":
            self._run = lower(self._body, self._given(inputs), name="a function")

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """Return what the function returns at `inputs`, of the shapes that it was compiled for."""
        with torch.no_grad():
            if self._run is None:
                return self.graph(*inputs)
            return list(self._run(self._given(inputs)))

    def _given(self, inputs: Tensors) -> list[Tensor]:
        noise = [draw.sample() for draw in self.graph.draws]
        return [*(t.detach() for t in (*inputs, *self.graph.captured)), *noise]

    def _body(self, *given: Tensor) -> list[Tensor]:
        results = self.graph.module(*given)
        count = self.graph.num_results
        for place, value in zip(self.graph.changed, results[count:], strict=True):
            given[place].copy_(value)
        return list(results[:count])


def compiled(
    function: Callable[..., Tensors], inputs: Tensors, *, backend: str = "inductor"
) -> Compiled:
    """Compile a function of tensors that may draw random numbers and differentiate.

    The function is run once, on `inputs`, and every operation recorded; Pyro's handlers,
    ``torch.autograd.grad`` and in-place changes within it are seen through. Random draws are
    fresh at every call, from torch's global stream, in the order of the function: under one
    seed, `compiled` and the function itself see the same noise.

    Args:
        function: takes tensors, returns a sequence of tensors; its course must not depend on
            their entries. Parameters that it uses without being handed them are read again.
        inputs: examples of the shapes, dtypes and device to come.
        backend: ``inductor``, or ``eager`` to run the recorded operations one by one.

    Returns:
        A callable with the function's arguments and results.

    Raises:
        ValueError: an unknown backend.
        UntraceableError: the function cannot be recorded or compiled; the text says why.

    Example:
        >>> double = compiled(lambda x: [2 * x], [torch.ones(3)], backend="eager")
        >>> double(torch.arange(3.0))
        [tensor([0., 2., 4.])]
    """
    return Compiled(function, inputs, backend=backend)
