"""Whether a registered divergence of two distributions can be relied on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from pyro.distributions import Delta, MaskedDistribution
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    TransformedDistribution,
    kl_divergence,
)
from torch.distributions.kl import _dispatch_kl
from torch.distributions.transforms import Transform

from ppl_vae.elbos.sites.wrong_kls import wrong_where

_WRAPPERS = (Independent, MaskedDistribution)


def base(fn: Any) -> Distribution:  # noqa: ANN401
    """Return what ``to_event`` and ``mask`` were applied to."""
    return next(each for each in layers(fn) if not isinstance(each, _WRAPPERS))


def layers(fn: Any) -> Iterator[Any]:  # noqa: ANN401
    """Yield a distribution and those that it wraps, from the outside in."""
    yield fn
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
        yield fn


def registered_kl(q: Any, p: Any) -> Tensor:  # noqa: ANN401
    """Return torch's or Pyro's KL(q || p), over the batch shape to which the two broadcast.

    Some of torch's formulas do not broadcast by themselves (the one for two Bernoullis, say).

    Raises:
        NotImplementedError: none is registered, or one that is known to be wrong; or the two are
            of several numbers and of one.
    """
    if q.event_shape != p.event_shape:
        raise NotImplementedError("the event shapes differ")
    wrong = wrong_where(base(q), base(p))
    if wrong:
        raise NotImplementedError(wrong)
    shape = torch.broadcast_shapes(q.batch_shape, p.batch_shape)
    sides = [f if f.batch_shape == shape else f.expand(shape) for f in (q, p)]
    # Torch's formula of two exponential families takes a derivative.
    with torch.enable_grad():
        kl = kl_divergence(*sides)
    return kl if torch.is_grad_enabled() else kl.detach()


def obstacle(fn: Any, prior: Any) -> str:  # noqa: ANN401
    """Return why ``kl_divergence(fn, prior)`` is not to be used, or nothing.

    Not all of torch's formulas are right for every use. The one for two transformed distributions
    compares the transforms' parameters by their present values, so it holds at one step and not
    at the next, and has no gradient by them. The one for two masked distributions hides what
    either mask hides.
    """
    first, second = base(fn), base(prior)
    if isinstance(first, Delta):
        return "a Delta has no density against another, only a value"
    masks = [[f._mask for f in layers(side) if hasattr(f, "_mask")] for side in (fn, prior)]
    same = len(masks[0]) == len(masks[1]) and all(
        isinstance(a, Tensor) and a is b for a, b in zip(*masks, strict=True)
    )
    if not same:
        return "its distribution has a mask of its own"
    if fn.batch_shape != prior.batch_shape or fn.event_shape != prior.event_shape:
        return "its shapes differ between model and guide"
    wrong = wrong_where(first, second)
    if wrong:
        return wrong
    if _is_by_transforms(first, second) and not _agree_always(first, second):
        return "its transforms have parameters, which may differ"
    return ""


def _is_by_transforms(first: Distribution, second: Distribution) -> bool:
    general = _dispatch_kl(TransformedDistribution, TransformedDistribution)
    return _dispatch_kl(type(first), type(second)) is general


def _agree_always(first: Any, second: Any) -> bool:  # noqa: ANN401
    if len(first.transforms) != len(second.transforms):
        return False
    pairs = zip(first.transforms, second.transforms, strict=True)
    return all(a is b or (a == b and not _has_parameters(a)) for a, b in pairs)


def _has_parameters(transform: Transform) -> bool:
    """Return whether `transform`, or a part of it, holds tensors."""
    pending: list[object] = [transform]
    visited: set[int] = set()
    while pending:
        item = pending.pop()
        if torch.is_tensor(item) or isinstance(item, torch.nn.Module):
            return True
        if id(item) in visited:  # an inverse and its original refer to each other
            continue
        visited.add(id(item))
        if isinstance(item, Transform):
            # A transform may remember its last arguments.
            pending += [v for name, v in vars(item).items() if not name.startswith("_cached")]
        elif isinstance(item, (list, tuple)):
            pending += item
    return False
