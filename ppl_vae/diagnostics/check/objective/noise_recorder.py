"""The noise that a function draws from torch, seen from outside."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ppl_vae.diagnostics.check.objective.dropout_off import DROPS

HALF = (torch.float16, torch.bfloat16)
NORMAL, EXPONENTIAL, UNIFORM = "normal", "exponential", "uniform"


class Recorder(TorchDispatchMode):
    """Keeps a copy of all standard noise that is drawn while it is active, by kind.

    Attributes:
        draws: the kind of noise to the tensors, in the order in which they were drawn.
        rounding: the largest relative rounding error of what was computed in half precision.
        dropped: how many numbers of Bernoulli noise were drawn, as dropout draws them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.draws: dict[str, list[Tensor]] = {NORMAL: [], EXPONENTIAL: [], UNIFORM: []}
        self.dropped, self.rounding = 0, 0.0

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Run the operation; note what it drew."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if isinstance(out, Tensor) and out.dtype in HALF:
            self.rounding = max(self.rounding, torch.finfo(out.dtype).eps / 2)
        if func._schema.name in DROPS:
            self.dropped += args[0].numel()
        read = _READ.get(func._schema.name)
        if read is not None:
            kind, standard = read(func, out, args, kwargs)
            self.draws[kind].append(standard.detach().clone())
        return out


def _normal(func: Any, out: Tensor, args: tuple, kwargs: dict) -> tuple[str, Tensor]:  # noqa: ANN401
    names = [argument.name for argument in func._schema.arguments]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    mean, std = given.get("mean", 0.0), given.get("std", 1.0)
    return NORMAL, (out.detach() - mean) / std


def _exponential(func: Any, out: Tensor, args: tuple, kwargs: dict) -> tuple[str, Tensor]:  # noqa: ANN401
    rate = args[1] if len(args) > 1 else kwargs.get("lambd", 1.0)
    return EXPONENTIAL, out.detach() * rate


def _uniform(func: Any, out: Tensor, args: tuple, kwargs: dict) -> tuple[str, Tensor]:  # noqa: ANN401
    return UNIFORM, out


_READ = {
    "aten::randn": lambda func, out, args, kwargs: (NORMAL, out),
    "aten::randn_like": lambda func, out, args, kwargs: (NORMAL, out),
    "aten::normal": _normal,
    "aten::normal_": _normal,
    "aten::exponential": _exponential,
    "aten::exponential_": _exponential,
    "aten::rand": _uniform,
    "aten::rand_like": _uniform,
    "aten::uniform": _uniform,
    "aten::uniform_": _uniform,
}
