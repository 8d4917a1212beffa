"""Pyro's estimators without their waits for the device."""

from __future__ import annotations

import copy
import inspect
from types import CellType, FunctionType
from typing import Any

from pyro.infer import ELBO, traceenum_elbo
from torch import Tensor

from ppl_vae.elbos import WeightedELBO
from ppl_vae.inference.steps.whole_dice import WholeDice


def deferred(elbo: ELBO) -> ELBO:
    """Return a copy of `elbo` whose losses are tensors and which waits for nothing.

    Pyro reads every site's log-probability as a Python number (``torch_item``, or ``item`` in
    ``RenyiELBO``) and looks for NaN (``warn_if_nan``) at each step; on a GPU each is a wait, and
    none can be traced. The copy runs the same code with these names bound to what leaves a tensor
    a tensor. Pyro's own classes are not changed.

    Args:
        elbo: any estimator; one whose class names none of the three is returned as it is.
    """
    if isinstance(elbo, WeightedELBO):
        twin = copy.copy(elbo)
        twin.elbo = deferred(elbo.elbo)
        return twin
    # A Jit class is the same estimator, which torch.jit would trace.
    cls: Any = next(c for c in type(elbo).__mro__ if not c.__name__.startswith("Jit"))
    rebound: dict[str, Any] = {}
    for name in dir(cls):
        function = inspect.getattr_static(cls, name)
        if isinstance(function, FunctionType) and _waits(inspect.unwrap(function)):
            rebound[name] = _rebind(function)
    if not rebound and cls is type(elbo):
        return elbo
    twin = copy.copy(elbo)
    twin.__class__ = type(cls.__name__, (cls,), rebound)
    return twin


def _waits(function: Any) -> bool:  # noqa: ANN401
    names = getattr(getattr(function, "__code__", None), "co_names", ())
    return bool({*_WITHOUT_WAITS, "item"} & set(names))


def _rebind(function: FunctionType) -> FunctionType:
    """Return a twin of `function`, or of what decorators (``torch.no_grad``) have wrapped."""
    closure = function.__closure__
    inner = getattr(function, "__wrapped__", None)
    if isinstance(inner, FunctionType) and closure is not None:
        twin = _rebind(inner)
        closure = tuple(CellType(twin) if c.cell_contents is inner else c for c in closure)
    names = tuple("detach" if name == "item" else name for name in function.__code__.co_names)
    twin = FunctionType(
        function.__code__.replace(co_names=names),
        {**function.__globals__, **_WITHOUT_WAITS},
        function.__name__,
        function.__defaults__,
        closure,
    )
    twin.__kwdefaults__ = function.__kwdefaults__
    return twin


def _detached(value: Tensor | float) -> Tensor | float:
    return value.detach() if isinstance(value, Tensor) else value


def _unchecked(value: Tensor | float, *_: object, **__: object) -> Tensor | float:
    return value


_WITHOUT_WAITS: dict[str, Any] = {
    "torch_item": _detached,
    "warn_if_nan": _unchecked,
    "Dice": WholeDice,
}
_WITHOUT_WAITS["_compute_dice_elbo"] = _rebind(traceenum_elbo._compute_dice_elbo)
