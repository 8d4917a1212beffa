"""PyTorch's distributions as Pyro's."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch.distributions import Independent


def as_pyro(fn: Any) -> Any:  # noqa: ANN401
    """Return a distribution with what ``pyro.sample`` asks of it, which PyTorch's own have not.

    It is of a subclass of its class and shares its parameters; one that is Pyro's is copied.
    """
    fn = copy.copy(fn)
    if isinstance(fn, Independent):
        fn.base_dist = as_pyro(fn.base_dist)
    if not isinstance(fn, TorchDistributionMixin):
        fn.__class__ = _pyro_class(type(fn))
    return fn


@cache
def _pyro_class(cls: type) -> type:
    return type(cls.__name__, (cls, TorchDistributionMixin), {})
