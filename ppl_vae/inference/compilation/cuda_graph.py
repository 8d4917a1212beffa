"""A compiled function as a CUDA graph: one launch for all of its kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_WARM_UP = 3


class Captured:
    """Records the kernels of a function once, then launches them all at once.

    The function's inputs keep their memory: arguments are copied into it, what it changes in
    place is changed for everyone. The noise is drawn within the graph, from torch's generator of
    the device, whose seed and position count at every launch.

    Args:
        run: a compiled function of a list of tensors.
        draw: fills the noise among them.
        given: the inputs, on a CUDA device.
        num_arguments: how many of them, from the first, come anew with every call.
    """

    def __init__(
        self,
        run: Callable[[list[Tensor]], Sequence[Tensor]],
        draw: Callable[[], None],
        given: list[Tensor],
        num_arguments: int,
    ) -> None:
        self._arguments = [t.clone() for t in given[:num_arguments]]
        inputs = [*self._arguments, *given[num_arguments:]]
        held = given[num_arguments:]
        old = [t.clone() for t in held]
        device = given[0].device
        state = torch.cuda.get_rng_state(device)
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                draw()
                run(list(inputs))
        torch.cuda.current_stream(device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            draw()
            self._results = list(run(list(inputs)))
        for tensor, value in zip(held, old, strict=True):
            tensor.copy_(value)
        torch.cuda.set_rng_state(state, device)

    def __call__(self, given: list[Tensor]) -> list[Tensor]:
        """Return the function's results at new arguments."""
        for memory, argument in zip(self._arguments, given, strict=False):
            memory.copy_(argument)
        self._graph.replay()
        return [t.clone() for t in self._results]
