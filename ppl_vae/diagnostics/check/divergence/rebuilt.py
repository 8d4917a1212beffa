"""Distributions as modules: their parameters can be moved, and some examples chosen."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from pyro.distributions.torch_distribution import ExpandedDistribution
from torch import Tensor, nn
from torch.distributions import Distribution, constraints, transform_to
from torch.distributions.transforms import Transform, _InverseTransform

from ppl_vae.diagnostics.check.divergence.constructor import arguments, constraint
from ppl_vae.distributions import as_pyro

# Counts are numbers of trials, not parameters; a control variate is no part of the density; the
# sampler of a SineBivariateVonMises serves small correlations.
_KEPT = ("total_count", "control_var", "leaf_times", "correlation")


Memo = dict[int, nn.Module]


class Node(nn.Module):
    """A distribution, or an argument of one, that is made anew for some examples.

    Args:
        make: from the examples' places, None where there is no batch, and the parts for these
            examples by name.
        parts: what it is made of.
        is_distribution: whether it is a distribution.
    """

    def __init__(
        self,
        make: Callable[..., Any],
        parts: dict[str, nn.Module] | None = None,
        *,
        is_distribution: bool = False,
    ) -> None:
        super().__init__()
        self._make, self.is_distribution = make, is_distribution
        self._names = list(parts or {})
        for name, part in (parts or {}).items():
            self.add_module(name, part)

    def forward(self, places: Tensor | None) -> Any:  # noqa: ANN401
        """Return what it is for the examples at `places`; None where there is no batch."""
        parts = {name: self.get_submodule(name)(places) for name in self._names}
        return self._make(places, **parts)


def rebuilt(fn: Distribution, memo: Memo) -> Node:
    """Return a module that makes a distribution anew from its arguments.

    Args:
        fn: the distribution.
        memo: the transforms so far, by identity, so that q and p share what they shared.

    Raises:
        AttributeError: as in `arguments`.
    """
    cls, parts = type(fn), {}
    for name, value in arguments(fn).items():
        limit = None if name in _KEPT else constraint(fn, name)
        parts[name] = _node(name, value, limit, fn.batch_shape, fn, memo)
    return Node(lambda _, **parts: cls(**parts), parts, is_distribution=True)


def for_pyro(fn: Any) -> Any:  # noqa: ANN401
    """Return a distribution as one of Pyro's, of a subclass of its class, that can be expanded."""
    fn = as_pyro(fn)
    try:
        fn.expand(fn.batch_shape)
    except NotImplementedError:
        return ExpandedDistribution(fn, fn.batch_shape)
    return fn


def _node(
    name: str,
    value: Any,  # noqa: ANN401
    limit: Any,  # noqa: ANN401
    batch: torch.Size,
    owner: Any,  # noqa: ANN401
    memo: Memo,
) -> nn.Module:
    """Return an argument of `owner`, of the batch shape `batch`, that is subject to `limit`."""
    if name == "batch_shape":
        return Node(lambda at: value if at is None else torch.Size((len(at), *value[1:])))
    if isinstance(value, Distribution):
        return rebuilt(value, memo)
    if isinstance(value, Transform):
        if id(value) not in memo:
            memo[id(value)] = _transform(value, batch, owner, memo)
        return memo[id(value)]
    if isinstance(value, nn.Module):
        return _itself(value)
    if _holds_transforms(value):
        parts = {str(i): _node("", v, None, batch, owner, memo) for i, v in enumerate(value)}
        return Node(lambda _, **parts: list(parts.values()), parts)
    if not isinstance(value, Tensor):
        return Node(lambda _: value)
    # A tensor of at least the batch's shape has one entry for each example; others are shared.
    is_batched = bool(batch) and value.shape[: len(batch)] == batch

    def chosen(tensor: Tensor, places: Tensor | None) -> Tensor:
        if places is None or not is_batched or (len(tensor) == 1 and len(places) > 1):
            return tensor
        return tensor[places]

    kept, bijection = value.detach(), _bijection(limit)
    if bijection is None or not value.is_floating_point():
        return Node(lambda places: chosen(kept, places))
    free = nn.Parameter(bijection.inv(kept.clone()))
    moved = Node(lambda places: bijection(chosen(free, places)))
    moved.free = free
    return moved


def _itself(module: nn.Module) -> nn.Module:
    """Return a node for a module whose own parameters are moved."""
    node = Node(lambda _: module)
    node.module = module
    return node


def _holds_transforms(value: object) -> bool:
    return isinstance(value, (list, tuple)) and any(isinstance(v, Transform) for v in value)


def _transform(
    value: Any,  # noqa: ANN401
    batch: torch.Size,
    owner: Any,  # noqa: ANN401
    memo: Memo,
) -> nn.Module:
    """Return a transform as a node: the object itself where nothing in it can be moved."""
    if isinstance(value, nn.Module):
        return _itself(value)
    if isinstance(value, _InverseTransform):
        parts = {"_inv": _node("", value.inv, None, batch, owner, memo)}
        return Node(lambda _, **parts: parts["_inv"].inv, parts)
    parts = {}
    # Tensors with as many dimensions as a value of the base distribution have the batch's.
    base = getattr(owner, "base_dist", owner)
    num_dims = len(base.batch_shape) + len(base.event_shape) if batch else 0
    for name, item in vars(value).items():
        if name in ("_inv", "_cached_x_y"):
            continue
        if isinstance(item, Tensor):
            is_batched = num_dims > 0 and item.dim() == num_dims and len(item) == batch[0]
            own = item.shape[:1] if is_batched else torch.Size()
            parts[name] = _node("", item, _limit(name, item), own, None, memo)
        elif isinstance(item, (Transform, Distribution, nn.Module)) or _holds_transforms(item):
            parts[name] = _node("", item, None, batch, owner, memo)

    def make(_: object, **parts: Any) -> Transform:  # noqa: ANN401
        if not parts:
            return value
        new = copy.copy(value)
        vars(new).update(parts)
        new._inv = None
        if hasattr(new, "_cached_x_y"):
            new._cached_x_y = None, None
        return new

    return Node(make, parts)


def _limit(name: str, value: Tensor) -> Any:  # noqa: ANN401
    """Return the constraint of a transform's tensor by its name, or None if it is not moved."""
    if name == "scale":
        if bool((value > 0).all()):
            return constraints.positive
        return constraints.less_than(0.0) if bool((value < 0).all()) else None
    return {"loc": constraints.real, "scale_tril": constraints.lower_cholesky}.get(name)


def _bijection(limit: Any) -> Any:  # noqa: ANN401
    """Return the map from the real line to a constraint, or None for what is not moved."""
    # One that depends on other arguments: the ends of an interval.
    if constraints.is_dependent(limit):
        limit = constraints.real
    if limit is None or limit.is_discrete:
        return None
    try:
        return transform_to(limit)
    except NotImplementedError:
        return None
