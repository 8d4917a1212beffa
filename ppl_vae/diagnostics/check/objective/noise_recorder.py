"""Records the noise that a function draws from torch."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

HALF = (torch.float16, torch.bfloat16)
NORMAL, EXPONENTIAL, UNIFORM = "normal", "exponential", "uniform"
# torch draws dropout's masks by the first two on CPU, and by the third in one kernel on CUDA.
DROPS = {"aten::bernoulli", "aten::bernoulli_", "aten::native_dropout"}
_DRAWS = {
    NORMAL: ("randn", "randn_like", "normal", "normal_"),
    EXPONENTIAL: ("exponential", "exponential_"),
    UNIFORM: ("rand", "rand_like", "uniform", "uniform_"),
}
_KINDS = {f"aten::{name}": kind for kind, names in _DRAWS.items() for name in names}


class OperationMode(TorchDispatchMode):
    """Passes every operation of torch to `run` while it is active."""

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401
        types: object,
        args: tuple = (),
        kwargs: dict | None = None,
    ) -> Any:  # noqa: ANN401
        """Return what `run` returns."""
        return self.run(func._schema.name, partial(func, *args, **(kwargs or {})))

    def run(self, name: str, operation: partial) -> Any:  # noqa: ANN401
        """Return the operation's result, or something in its place."""
        raise NotImplementedError


def arguments(operation: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the arguments of an operation of torch by name, without defaults."""
    names = [argument.name for argument in operation.func._schema.arguments]
    return dict(zip(names, operation.args, strict=False)) | operation.keywords


class Recorder(OperationMode):
    """Keeps a copy of all standard noise that is drawn while it is active, by kind.

    Attributes:
        draws: the kind of noise to the tensors, in the order in which they were drawn.
        rounding: the largest relative rounding error of what was computed in half precision.
        dropped: the number of entries of Bernoulli noise that were drawn, as by dropout.
    """

    def __init__(self) -> None:
        super().__init__()
        self.draws: dict[str, list[Tensor]] = {kind: [] for kind in _DRAWS}
        self.dropped, self.rounding = 0, 0.0

    def run(self, name: str, operation: partial) -> Any:  # noqa: ANN401
        """Run the operation; note what it drew."""
        out = operation()
        if isinstance(out, Tensor) and out.dtype in HALF:
            self.rounding = max(self.rounding, torch.finfo(out.dtype).eps / 2)
        if name in DROPS:
            self.dropped += operation.args[0].numel()
        if name in _KINDS:
            kind = _KINDS[name]
            self.draws[kind].append(_standard(kind, out.detach(), arguments(operation)).clone())
        return out


def _standard(kind: str, noise: Tensor, given: dict[str, Any]) -> Tensor:
    """Return the standard noise behind a draw with the given arguments."""
    if kind == NORMAL:
        return (noise - given.get("mean", 0.0)) / given.get("std", 1.0)
    return noise * given.get("lambd", 1.0) if kind == EXPONENTIAL else noise
