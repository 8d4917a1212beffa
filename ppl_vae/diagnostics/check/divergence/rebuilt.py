"""Distributions as modules: their parameters can be moved, and some examples chosen."""

from __future__ import annotations

import copy
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


class Node(nn.Module):
    """One argument of a distribution; of this class itself, one that is not moved.

    Args:
        value: the argument.
        batch: the batch shape of the distribution. A tensor of at least that shape has one entry
            for each example; any other is shared by all of them.
    """

    def __init__(self, value: Any, batch: torch.Size) -> None:  # noqa: ANN401
        super().__init__()
        self._value = value
        is_tensor = isinstance(value, Tensor)
        self._is_batched = bool(batch) and is_tensor and value.shape[: len(batch)] == batch

    def forward(self, places: Tensor | None) -> Any:  # noqa: ANN401
        """Return the argument of the examples at `places`; None where there is no batch."""
        return self._at(self._value, places)

    def _at(self, value: Any, places: Tensor | None) -> Any:  # noqa: ANN401
        if places is None or not self._is_batched or (len(value) == 1 and len(places) > 1):
            return value
        return value[places]


class Moved(Node):
    """A tensor as an unconstrained parameter."""

    def __init__(self, value: Tensor, batch: torch.Size, bijection: Any) -> None:  # noqa: ANN401
        super().__init__(value, batch)
        self._value, self._bijection = None, bijection
        self.free = nn.Parameter(bijection.inv(value.detach().clone()))

    def forward(self, places: Tensor | None) -> Tensor:
        """Return the tensor of the examples at `places`."""
        return self._bijection(self._at(self.free, places))


class BatchShape(Node):
    """The argument ``batch_shape``."""

    def forward(self, places: Tensor | None) -> torch.Size:
        """Return the shape for the examples at `places`."""
        return self._value if places is None else torch.Size((len(places), *self._value[1:]))


class Composite(Node):
    """Several arguments, by name or by place."""

    def __init__(self, value: Any, parts: dict[str, nn.Module]) -> None:  # noqa: ANN401
        super().__init__(value, torch.Size())
        for name, part in parts.items():
            self.add_module(name, part)
        self._names = list(parts)

    def parts(self, places: Tensor | None) -> dict[str, Any]:
        """Return the arguments of the examples at `places`."""
        return {name: self.get_submodule(name)(places) for name in self._names}

    def forward(self, places: Tensor | None) -> Any:  # noqa: ANN401
        """Return a list of the arguments of the examples at `places`."""
        return list(self.parts(places).values())


class Rebuilt(Composite):
    """A distribution.

    Args:
        fn: the distribution.
        memo: the transforms so far, by identity, so that q and p share what they shared.

    Raises:
        AttributeError: as in `arguments`.
    """

    def __init__(self, fn: Distribution, memo: dict[int, nn.Module]) -> None:
        parts = {}
        for name, value in arguments(fn).items():
            limit = None if name in _KEPT else constraint(fn, name)
            parts[name] = _node(name, value, limit, fn.batch_shape, fn, memo)
        super().__init__(type(fn), parts)

    def forward(self, places: Tensor | None) -> Distribution:
        """Return the distribution of the examples at `places`."""
        return self._value(**self.parts(places))


class RebuiltTransform(Composite):
    """A transform: the object itself where it holds nothing that can be moved."""

    def forward(self, places: Tensor | None) -> Transform:
        """Return the transform of the examples at `places`."""
        if isinstance(self._value, _InverseTransform):
            return self.parts(places)["_inv"].inv
        if not self._names:
            return self._value
        new = copy.copy(self._value)
        vars(new).update(self.parts(places))
        new._inv = None
        if hasattr(new, "_cached_x_y"):
            new._cached_x_y = None, None
        return new


class Itself(Node):
    """A module, whose own parameters are moved."""

    def __init__(self, value: nn.Module) -> None:
        super().__init__(None, torch.Size())
        self.module = value

    def forward(self, places: Tensor | None) -> nn.Module:  # noqa: ARG002
        """Return the module."""
        return self.module


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
    memo: dict[int, nn.Module],
) -> nn.Module:
    """Return an argument of `owner`, of the batch shape `batch`, that is subject to `limit`."""
    if name == "batch_shape":
        return BatchShape(value, batch)
    if isinstance(value, Distribution):
        return Rebuilt(value, memo)
    if isinstance(value, Transform):
        if id(value) not in memo:
            memo[id(value)] = _transform(value, batch, owner, memo)
        return memo[id(value)]
    if isinstance(value, nn.Module):
        return Itself(value)
    if isinstance(value, (list, tuple)) and any(isinstance(v, Transform) for v in value):
        parts = {str(i): _node("", v, None, batch, owner, memo) for i, v in enumerate(value)}
        return Composite(None, parts)
    bijection = _bijection(limit)
    if bijection is not None and isinstance(value, Tensor) and value.is_floating_point():
        return Moved(value, batch, bijection)
    return Node(value.detach() if isinstance(value, Tensor) else value, batch)


def _transform(
    value: Any,  # noqa: ANN401
    batch: torch.Size,
    owner: Any,  # noqa: ANN401
    memo: dict[int, nn.Module],
) -> nn.Module:
    if isinstance(value, nn.Module):
        return Itself(value)
    if isinstance(value, _InverseTransform):
        return RebuiltTransform(value, {"_inv": _node("", value.inv, None, batch, owner, memo)})
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
        elif isinstance(item, (Transform, Distribution, list, tuple, nn.Module)):
            node = _node("", item, None, batch, owner, memo)
            if type(node) is not Node:
                parts[name] = node
    return RebuiltTransform(value, parts)


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
