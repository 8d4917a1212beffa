"""What a caller's function returns, checked."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Size, Tensor

from ppl_vae import checks


def function_values(
    name: str,
    function: Callable[[Tensor], Tensor],
    z: Tensor,
    batch_shape: Size,
    *,
    where: Tensor | bool = True,
    may_be_zero_density: bool = False,
) -> Tensor:
    """Return ``function(z)``, (num_points, *batch_shape).

    Args:
        name: what the function is called in messages.
        function: the caller's.
        z: points, (num_points, ...).
        batch_shape: what is to follow the first dimension of the result.
        where: at which points the values matter; elsewhere they are returned as 0. It broadcasts.
        may_be_zero_density: whether minus infinity is a value too.

    Raises:
        TypeError: the function does not return a floating-point tensor.
        ValueError: a wrong shape, or a value that is not finite.
    """
    values = checks.floating(f"{name}(z)", function(z))
    shape = (len(z), *batch_shape)
    if values.shape != shape:
        raise ValueError(
            checks.message(
                f"{name}(z) of shape (num_points, *batch_shape) = {shape} for z of shape "
                f"{tuple(z.shape)}",
                f"shape {tuple(values.shape)}",
                "Keep the first dimension and those of the batch; sum over the others.",
            )
        )
    if where is not True:
        values = torch.where(torch.as_tensor(where, device=z.device), values, 0.0)
    if checks.values_are_checked():
        good = values.isfinite()
        if may_be_zero_density:
            good = good | (values == -torch.inf)
        if not bool(good.all()):
            first = tuple((~good).nonzero()[0].tolist())
            came = (
                f"{int((~good).sum())} of {good.numel()} values otherwise, the first "
                f"{values[first].item()} at "
                f"z = {z[first].detach().tolist()}"
            )
            remedy = "Look for an overflow, or for a z outside of what the function can take."
            raise ValueError(checks.message(f"finite values of {name}(z)", came, remedy))
    return values
