"""A compiled function as a CUDA graph: one launch for all of its kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.fx import GraphModule

# A compiled function tunes its kernels and libraries make their handles at their first calls.
_WARM_UP = 3
_LITERALS = {torch.ops.aten.full.default, torch.ops.aten.lift_fresh_copy.default}


def why_not_captured(module: GraphModule, given: Sequence[Tensor]) -> str | None:
    """Return why a CUDA graph would not do what `module` does with tensors like `given`, or None.

    A graph launches kernels only. A number that a kernel is handed from the CPU keeps the value
    that it had when the graph was recorded, and so does what the CPU draws or computes.
    """
    if any(t.device != given[0].device for t in given):
        devices = sorted({str(t.device) for t in given})
        return f"it takes tensors on {' and '.join(devices)}"
    for node in module.graph.nodes:
        value = node.meta.get("val")
        if node.op != "call_function" or node.target in _LITERALS:
            continue
        if isinstance(value, Tensor) and value.device.type == "cpu":
            return f"it computes on the CPU ({node.target})"
    return None


class Captured:
    """Records the kernels of a function once, then launches them all at once.

    The function's inputs keep their memory: arguments are copied into it, what it changes in
    place is changed for everyone. The noise is drawn within the graph, from torch's generator of
    the device, which `torch.cuda.graph` registers with it: the generator's seed and position
    count at every launch, and move on as they would uncaptured. The warm-up and the recording run
    on a stream of their own; parameters, state and the generator are afterwards as before.

    Args:
        run: a compiled function of a list of tensors.
        draw: fills the noise among them.
        given: the inputs, all on one CUDA device.
        num_arguments: how many of them, from the first, are new in every call.

    Raises:
        RuntimeError: CUDA cannot record an operation, such as a copy from the CPU.
    """

    def __init__(
        self,
        run: Callable[[list[Tensor]], Sequence[Tensor]],
        draw: Callable[[], None],
        given: list[Tensor],
        num_arguments: int,
    ) -> None:
        self._arguments = [t.clone() for t in given[:num_arguments]]
        held = given[num_arguments:]
        inputs = [*self._arguments, *held]
        old = [t.clone() for t in held]
        device = given[0].device
        state = torch.cuda.get_rng_state(device)
        self._graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.device(device):
                now, side = torch.cuda.current_stream(), torch.cuda.Stream()
                side.wait_stream(now)
                with torch.cuda.stream(side):
                    for _ in range(_WARM_UP):
                        draw()
                        run(list(inputs))
                now.wait_stream(side)
                # Other threads may allocate and wait meanwhile: a loader's, another pair's.
                with torch.cuda.graph(self._graph, stream=side, capture_error_mode="thread_local"):
                    draw()
                    self._results = list(run(list(inputs)))
        finally:
            for tensor, value in zip(held, old, strict=True):
                tensor.copy_(value)
            torch.cuda.set_rng_state(state, device)

    def __call__(self, given: list[Tensor]) -> list[Tensor]:
        """Return the function's results at new arguments."""
        for memory, argument in zip(self._arguments, given, strict=False):
            memory.copy_(argument)
        self._graph.replay()
        return [t.clone() for t in self._results]
