"""Operations that a compiler had better leave whole."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule

aten = torch.ops.aten

# On a CPU their own kernels take a third of the time of the loops that Inductor makes.
_FASTER_WHOLE = (
    aten.max_pool2d_with_indices.default,
    aten.max_pool2d_with_indices_backward.default,
    aten.upsample_bilinear2d.default,
    aten.upsample_bilinear2d.vec,
)
_library = torch.library.Library("ppl_vae", "FRAGMENT")


def _under_another_name(operation: Any) -> Any:  # noqa: ANN401
    """Return an operation that does the same, of which a compiler knows nothing."""
    name = operation._schema.name.partition("::")[2]
    _library.define(str(operation._schema).partition("::")[2])
    full = f"{name}.{operation._overloadname}".removesuffix(".default")
    _library.impl(full, operation, "CompositeExplicitAutograd")
    return getattr(getattr(torch.ops.ppl_vae, name), operation._overloadname)


_OTHER_NAMES = {operation: _under_another_name(operation) for operation in _FASTER_WHOLE}


def leave_whole(module: GraphModule) -> None:
    """Give operations of a graph for a CPU another name where a compiler makes them slower."""
    for node in module.graph.nodes:
        node.target = _OTHER_NAMES.get(node.target, node.target)
    module.recompile()
