"""Bad input becomes a clear error: what was expected, what came, what to do.

Kinds and shapes are always checked. Values (NaN, ranges) cost a pass over the data and, on a GPU,
a wait for it; they are checked while distributions validate their arguments, which is the default
and is what ``pyro.enable_validation`` switches.
"""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

Kinds = Any  # a class, or a tuple of classes
Real = Tensor | float  # a real number, or a tensor of them


def message(expected: str, came: str, remedy: str) -> str:
    """Return the three-part text that every error of this library has."""
    return f"expected {expected}; got {came}. {remedy}"


def value_error(expected: str, came: str, remedy: str) -> ValueError:
    """Return a ValueError with the three-part text."""
    return ValueError(message(expected, came, remedy))


def type_error(expected: str, came: str, remedy: str) -> TypeError:
    """Return a TypeError with the three-part text."""
    return TypeError(message(expected, came, remedy))


def not_implemented(expected: str, came: str, remedy: str) -> NotImplementedError:
    """Return a NotImplementedError with the three-part text."""
    return NotImplementedError(message(expected, came, remedy))


def extra(name: str, module: str) -> ImportError:
    """Return the error for a library that comes with an extra of this one and is missing."""
    return ImportError(
        message(
            f"the library {module}", "an environment without it", f"pip install 'ppl_vae[{name}]'"
        )
    )


@contextmanager
def own_words() -> Iterator[None]:
    """Raise an error of this library as it is, without the shapes of all sites.

    Pyro makes a new error of each one that passes through a trace, with that table behind the
    text. It stays where the text is not ours, as it may tell a user which shape is wrong. Also a
    decorator, ``@own_words()``.
    """
    try:
        yield
    except (ValueError, RuntimeError) as error:
        first: BaseException = error
        while first.__cause__ is not None and str(first).startswith(str(first.__cause__)):
            first = first.__cause__
        if first is error or not str(first).startswith("expected "):
            raise
        raise first from None


def values_are_checked() -> bool:
    """Return whether tensors' values are checked (as ``pyro.enable_validation`` was last told)."""
    return bool(Distribution._validate_args)


def floating(name: str, value: object) -> Tensor:
    """Return `value`, which must be a floating-point tensor.

    Raises:
        TypeError: it is not a tensor, or holds integers, booleans or complex numbers.
    """
    if not isinstance(value, Tensor):
        raise type_error(
            f"{name} as a torch tensor", type(value).__name__, "Pass torch.as_tensor(value)."
        )
    if not value.is_floating_point():
        raise type_error(
            f"{name} of a floating dtype",
            f"dtype {value.dtype}",
            f"Convert it: {name}.to(torch.get_default_dtype()).",
        )
    return value


def floats(**values: Real) -> tuple[Tensor, ...]:
    """Return the keyword arguments as tensors of one floating dtype and device, in their order.

    Python numbers take the dtype and device of the tensors among them (or torch's default).
    Values are checked for NaN.

    Raises:
        TypeError: an argument is neither a number nor a floating-point tensor.
        ValueError: a NaN, or tensors on several devices, or shapes that do not broadcast.
    """
    tensors = {name: floating(name, v) for name, v in values.items() if isinstance(v, Tensor)}
    devices = {t.device for t in tensors.values()}
    if len(devices) > 1:
        raise value_error(
            "all arguments on one device", ", ".join(sorted(map(str, devices))), "Move them."
        )
    dtypes = [tensor.dtype for tensor in tensors.values()] or [torch.get_default_dtype()]
    dtype = functools.reduce(torch.promote_types, dtypes)
    device = next(iter(devices), None)
    result = []
    for name, value in values.items():
        if not isinstance(value, Tensor):
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise type_error(
                    f"{name} as a number or a floating-point tensor",
                    type(value).__name__,
                    "Pass a float or a torch tensor.",
                )
            value = torch.tensor(float(value), dtype=dtype, device=device)
        result.append(value.to(dtype))
        require(name, value, lambda v: ~v.isnan(), "no NaN", "Look for where it arose.")
    return tuple(result)


def broadcastable(**tensors: Tensor) -> torch.Size:
    """Return the common shape of the keyword arguments.

    Raises:
        ValueError: they do not broadcast; the message lists every shape.
    """
    try:
        return torch.broadcast_shapes(*(t.shape for t in tensors.values()))
    except RuntimeError:
        shapes = ", ".join(f"{name} {tuple(t.shape)}" for name, t in tensors.items())
        raise value_error("shapes that broadcast", shapes, "Make each size equal, or 1.") from None


def finite(name: str, value: Tensor) -> Tensor:
    """Return `value`; raise ValueError if it holds a NaN or an infinity."""
    return require(
        name, value, torch.isfinite, "finite numbers only", "Remove or replace those entries."
    )


def positive(name: str, value: Tensor) -> Tensor:
    """Return `value`; raise ValueError unless every entry is finite and above zero."""
    return require(
        name,
        value,
        lambda v: (v > 0) & v.isfinite(),
        "finite numbers above 0 only",
        "Pass the quantity itself, not its logarithm.",
    )


def binary(name: str, value: Tensor) -> Tensor:
    """Return `value`; raise ValueError unless every entry is 0 or 1."""
    return require(
        name,
        value,
        lambda v: (v == 0) | (v == 1),
        "pixels that are 0 or 1 only (a Bernoulli's support)",
        "Scale pixels to [0, 1] and binarise them, for instance with ppl_vae.data.binarize.",
    )


def nonempty(name: str, value: Tensor) -> Tensor:
    """Return `value`; raise ValueError if it has no entries."""
    if value.numel() == 0:
        raise value_error(
            f"{name} with at least one entry", f"shape {tuple(value.shape)}", "Pass data."
        )
    return value


def positive_number(name: str, value: object) -> float:
    """Return `value` as a float; raise unless it is a number, finite and above zero."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise type_error(f"{name} as a number", type(value).__name__, "Pass a Python float.")
    if not (math.isfinite(value) and value > 0):
        raise value_error(f"{name} finite and above 0", repr(value), "Choose a positive number.")
    return float(value)


def count(name: str, value: object, *, minimum: int = 1) -> int:
    """Return `value`; raise TypeError unless it is an int, ValueError below `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise type_error(f"{name} as an int", type(value).__name__, "Pass a whole number.")
    if value < minimum:
        raise value_error(f"{name} of at least {minimum}", repr(value), "Choose a larger one.")
    return value


def instance(name: str, value: object, kinds: Kinds, words: str, remedy: str) -> Any:  # noqa: ANN401
    """Return `value`; raise TypeError unless it is one of `kinds`, which `words` describe."""
    if not isinstance(value, kinds):
        raise type_error(f"{name} as {words}", type(value).__name__, remedy)
    return value


def path(name: str, value: object) -> Path:
    """Return `value` as a path; raise TypeError unless it is a string or a path."""
    remedy = "Pass a string or a pathlib.Path."
    return Path(instance(name, value, (str, PathLike), "a path", remedy))


def function(name: str, value: object) -> Callable[..., Any]:
    """Return `value`; raise TypeError if it cannot be called."""
    return instance(name, value, Callable, "a function", "Pass it, not its result.")


def sizes(name: str, value: object) -> list[int]:
    """Return `value` as a list; raise unless it is a sequence of ints, each at least 1."""
    given = instance(name, value, Sequence, "a list of sizes", "For example [32, 16].")
    return [count(f"every entry of {name}", each) for each in given]


def name(kind: str, value: object, known: Iterable[str]) -> str:
    """Return `value`; raise ValueError unless it is one of `known`, suggesting the nearest."""
    options = list(known)
    if isinstance(value, str) and value in options:
        return value
    close = difflib.get_close_matches(str(value), options, n=1, cutoff=0.5)
    remedy = f"Did you mean {close[0]!r}?" if close else "Choose one of them."
    raise value_error(f"{kind} as one of {', '.join(options)}", repr(value), remedy)


def require(
    name: str, value: Tensor, holds: Callable[[Tensor], Tensor], expected: str, remedy: str
) -> Tensor:
    """Return `value`; raise ValueError unless `holds` is True of every entry."""
    if not values_are_checked():
        return value
    good = holds(value.detach())
    if not bool(good.all()):
        bad = value.detach()[~good]
        first = bad.flatten()[0].item()
        came = f"{bad.numel()} of {value.numel()} entries otherwise, the first {first}"
        raise value_error(f"{name}: {expected}", came, remedy)
    return value
