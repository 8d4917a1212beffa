"""Pyro's estimators without their waits for the device."""

from __future__ import annotations

import copy
import inspect
from types import FunctionType
from typing import Any

from pyro.infer import ELBO
from torch import Tensor


def deferred(elbo: ELBO) -> ELBO:
    """Return a copy of `elbo` whose ``loss_and_grads`` returns a tensor and waits for nothing.

    Pyro reads every site's log-probability as a Python number (``torch_item``) and looks for NaN
    (``warn_if_nan``) at each step; on a GPU each is a wait. The copy runs the same code with both
    names bound to functions that leave a tensor a tensor. Pyro's own classes are not changed.

    Args:
        elbo: any estimator; one whose class names neither function is returned as it is.
    """
    cls = type(elbo)
    rebound: dict[str, Any] = {}
    for name in dir(cls):
        function = inspect.getattr_static(cls, name)
        if isinstance(function, FunctionType) and set(_WAITS) & set(function.__code__.co_names):
            rebound[name] = _rebind(function)
    if not rebound:
        return elbo
    twin = copy.copy(elbo)
    twin.__class__ = type(cls.__name__, (cls,), rebound)
    return twin


def _rebind(function: FunctionType) -> FunctionType:
    twin = FunctionType(
        function.__code__,
        {**function.__globals__, **_WAITS},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    twin.__kwdefaults__ = function.__kwdefaults__
    return twin


def _detached(value: Tensor | float) -> Tensor | float:
    return value.detach() if isinstance(value, Tensor) else value


def _unchecked(value: Tensor | float, *_: object, **__: object) -> Tensor | float:
    return value


_WAITS = {"torch_item": _detached, "warn_if_nan": _unchecked}
