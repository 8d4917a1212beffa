"""The arguments that a distribution was constructed with, read back from it."""

from __future__ import annotations

import inspect
from typing import Any

from torch.distributions import Distribution

# Of several ways to give a parameter, one is passed on: the one that was given, else the first.
_ONE_OF = (
    ("logits", "probs"),
    ("gate_logits", "gate"),
    ("scale_tril", "covariance_matrix", "precision_matrix"),
    ("correlation", "weighted_correlation"),
)
# Attributes whose names are not those of the arguments.
_ATTRIBUTES = {"base_distribution": "base_dist", "d": "dim", "eta": "concentration"}
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def arguments(fn: Distribution) -> dict[str, Any]:
    """Return the arguments from which `fn` can be constructed again, by name.

    Raises:
        AttributeError: an argument that no attribute of its name keeps; the text is that name.
    """
    signature = _signature(type(fn))
    left_out = {n for names in _ONE_OF for n in _others(fn, [n for n in names if n in signature])}
    values = {}
    for name, parameter in signature.items():
        if name in left_out or name == "validate_args":
            continue
        value = _read(fn, name)
        if value is not inspect.Parameter.empty:
            values[name] = value
        elif parameter.default is inspect.Parameter.empty:
            raise AttributeError(name)
    if "validate_args" in signature and vars(fn).get("_validate_args") is False:
        values["validate_args"] = False
    return values


def constraint(fn: Any, name: str) -> Any:  # noqa: ANN401
    """Return what `fn` asks of an argument, or None if it says nothing."""
    try:
        known = fn.arg_constraints
    except NotImplementedError:
        return None
    return known.get(name, known.get(_ATTRIBUTES.get(name)))


def _signature(cls: type) -> dict[str, inspect.Parameter]:
    """Return the parameters of the first constructor among the classes that names them all."""
    for each in cls.__mro__:
        if "__init__" in vars(each):
            _, *parameters = inspect.signature(each.__init__).parameters.values()
            if all(p.kind not in _VARIADIC for p in parameters):
                return {p.name: p for p in parameters}
    return {}


def _others(fn: Distribution, names: list[str]) -> list[str]:
    """Return the names of a parameter that are not to be passed on."""
    missing = (None, inspect.Parameter.empty)
    given = [n for n in names if n in vars(fn)]
    taken = given or [n for n in names if _read(fn, n) not in missing]
    return [n for n in names if n not in taken[:1]]


def _read(fn: Distribution, name: str) -> Any:  # noqa: ANN401
    for attribute in (name, _ATTRIBUTES.get(name, name), f"_{name}"):
        value = getattr(fn, attribute, inspect.Parameter.empty)
        # MaskedDistribution keeps its mask beside the method of that name.
        if value is not inspect.Parameter.empty and not inspect.ismethod(value):
            return value
    return inspect.Parameter.empty
