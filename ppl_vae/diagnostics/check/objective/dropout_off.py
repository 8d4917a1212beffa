"""An objective without its dropout, seen from outside."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# torch draws dropout's masks by the first two on CPU, and by the third in one kernel on CUDA.
DROPS = {"aten::bernoulli", "aten::bernoulli_", "aten::native_dropout"}


class WithoutDropout(TorchDispatchMode):
    """Holds Bernoulli noise at its mean, which makes dropout the identity.

    Values only: the gradient of a fused dropout still has its scale.
    """

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Run the operation, or return the mean of what it would draw."""
        kwargs = kwargs or {}
        name = func._schema.name
        if name not in DROPS:
            return func(*args, **kwargs)
        if name == "aten::native_dropout":
            return args[0].clone(), torch.ones_like(args[0], dtype=torch.bool)
        given = dict(zip([a.name for a in func._schema.arguments], args, strict=False)) | kwargs
        out, p = given["self"], given.get("p")
        if name == "aten::bernoulli_":
            return out.copy_(p) if torch.is_tensor(p) else out.fill_(0.5 if p is None else p)
        return out.clone() if p is None else torch.full_like(out, p)
