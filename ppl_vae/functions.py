"""Any Pyro model and guide, and any batch, as a pair of one argument."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from functools import cache, partial, wraps
from typing import Any

import pyro
from pyro import poutine
from torch import Tensor, nn

from ppl_vae import checks
from ppl_vae.batch import Batch, Data, as_batch, bind, unpacked
from ppl_vae.pair import Pair, leaving_no_params
from ppl_vae.seeding import seeded

Functions = tuple[Callable[..., Any], Callable[..., Any]]


class FunctionPair(Pair):
    """A model and a guide that belong to no `Pair`, for the diagnostics.

    The parameters are those that the two register with Pyro when they are run on `x`; they stay
    where they are. Groups are what precedes ``$$$`` or the first dot in their names.

    Args:
        model: a Pyro model.
        guide: its guide.
        x: the data with which both are run once.
    """

    takes_whole_numbers = True

    def __init__(self, model: Callable[..., Any], guide: Callable[..., Any], x: Data) -> None:
        super().__init__()
        if isinstance(x, Batch):
            model, guide = unpacked(model), unpacked(guide)
        # Not by attribute, which would make a module of the guide a part of this one.
        vars(self)["model"], vars(self)["guide"] = model, guide
        with poutine.block(), seeded(0, x.device), pyro.validation_enabled(False):  # noqa: FBT003
            guide_trace: Any = poutine.trace(guide).get_trace(x)
            model_trace: Any = poutine.trace(poutine.replay(model, guide_trace)).get_trace(x)
        registered: dict[str, Tensor] = {}
        for trace in (guide_trace, model_trace):
            for name, site in trace.nodes.items():
                if site["type"] == "param":
                    registered[name] = site["value"].unconstrained()
        if not registered:
            raise checks.value_error(
                "at least one parameter in model or guide",
                "none",
                "Register it by pyro.param or pyro.module.",
            )
        vars(self)["registered"] = registered

    def named_parameters(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, *_: object, **__: object
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield names and unconstrained values of the parameters that Pyro holds."""
        for name, value in vars(self)["registered"].items():
            yield name.replace("$$$", "."), value

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:  # noqa: FBT001, FBT002
        """Yield the parameters."""
        for _, value in self.named_parameters():
            yield value

    def num_examples(self, x: Data) -> int:
        """Return the length of the first dimension."""
        return len(x) if x.dim() else 1


def as_program(pair: Pair | Functions, data: object) -> tuple[Pair, Data]:
    """Return a pair of one argument, and the data as that argument.

    The pair is the one given for a tensor, a twin with the same parameters for a `Batch`, and a
    `FunctionPair` of a model and a guide.

    Args:
        pair: a pair, or a model and a guide.
        data: a batch, as users pass it.

    Raises:
        TypeError: neither a pair nor two functions, or data that they do not take.
        ValueError: tensors of different lengths, or None for an argument without a default.
    """
    x = as_argument(pair, data)
    if not isinstance(pair, Pair):
        return FunctionPair(*pair, x), x
    return (unpacking(pair) if isinstance(x, Batch) else pair), x


def as_argument(pair: Pair | Functions, data: object) -> Data:
    """Return a batch as the one argument of a program: a tensor if the program takes just one.

    What made the data is no part of what is measured: they are detached. A tensor of whole
    numbers or booleans, such as words, is a `Batch` too, as no conversion of dtype is to touch it.

    Raises:
        TypeError: neither a pair nor two functions, or data that they do not take.
        ValueError: no entries, tensors of different lengths, or None for an argument without a
            default.
    """
    if not isinstance(pair, Pair):
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(map(callable, pair))):
            raise checks.type_error(
                "a ppl_vae.Pair, or a Pyro model and its guide as a tuple of two functions",
                type(pair).__name__,
                "Pass (model, guide).",
            )
        model, guide = pair
    else:
        model, guide = pair.model, pair.guide
    x = as_batch(data).detach()
    if isinstance(x, Tensor):
        checks.nonempty("x", x)
        for program in (model, guide):
            bind(program, (x,), {}, f"one tensor {tuple(x.shape)}")
        return x if x.is_floating_point() else _whole_numbers(pair, Batch((x,)))
    x.bind(guide)
    named = x.bind(model)
    first = next(iter(named.values()))
    if len(x.tensors) > 1 or first is not x.tensors[0]:
        return x
    return first if first.is_floating_point() else _whole_numbers(pair, x)


def _whole_numbers(pair: Pair | Functions, x: Batch) -> Batch:
    """Return a batch of one tensor without floats; see that functions take it, as a pair's check.

    Raises:
        TypeError: complex numbers, or the guide fails with them.
    """
    (tensor,) = x.tensors
    if tensor.is_complex():
        checks.floating("x", tensor)
    if not isinstance(pair, Pair):
        try:
            with leaving_no_params(), poutine.block(), seeded(0, x.device):
                x.call(pair[1])
        except RuntimeError as error:
            raise checks.type_error(
                "x of a floating dtype, or a program of whole numbers",
                f"dtype {tensor.dtype}, of which the guide says: {error}",
                "Convert it: x.to(torch.get_default_dtype()).",
            ) from error
    return x


def unpacking(pair: Pair) -> Pair:
    """Return a twin with the same parameters whose methods take a `Batch` as one argument."""
    twin = copy.copy(pair)  # the parameters' own dictionaries, not copies
    twin.__class__ = _unpacking_class(type(pair))
    # Its parameters have the same names in Pyro's store, which holds each of them once.
    vars(twin)["_serial"] = vars(pair)["_serial"]
    return twin


class _Unpacked:
    """An object whose methods take a `Batch` in the place of their arguments."""

    def __init__(self, inner: object) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        found = getattr(self._inner, name)
        return unpacked(found) if callable(found) else found


@cache
def _unpacking_class(cls: type[Pair]) -> type[Pair]:
    if getattr(cls, "unpacks", False):
        return cls

    def exact(self: Pair) -> Any:  # noqa: ANN401
        found = cls.exact.__get__(self)
        return None if found is None else _Unpacked(found)

    taking = ("model", "guide", "reconstruct", "auxiliary_loss")
    members: dict[str, Any] = {n: _method(getattr(cls, n)) for n in taking if hasattr(cls, n)}
    if hasattr(cls, "encode"):
        members["encode"] = _encode(cls.encode)  # pyright: ignore[reportAttributeAccessIssue]
    members |= {"exact": property(exact), "unpacks": True}
    return type(cls.__name__, (cls,), members)


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def of(self: Pair, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        return unpacked(partial(function, self))(*args, **options)

    return of


def _encode(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``encode``, which may take fewer arguments than the model, made to take a `Batch`."""
    taken = set(inspect.signature(function).parameters)

    @wraps(function)
    def of(self: Pair, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        if len(args) == 1 and isinstance(args[0], Batch):
            given = self.arguments(args[0])
            return function(self, **{name: given[name] for name in taken & given.keys()})
        return function(self, *args, **options)

    return of


def copied(pair: Pair) -> Pair:
    """Return a copy with parameters of its own.

    Attributes that a run left behind, tensors with a gradient's history, are copied without it.

    Raises:
        TypeError: the pair holds what cannot be copied.
    """
    left = (v for module in pair.modules() for v in vars(module).values() if isinstance(v, Tensor))
    memo: dict[int, Any] = {id(v): v.detach().clone() for v in left if not v.is_leaf}
    try:
        return copy.deepcopy(pair, memo)
    except (RuntimeError, TypeError) as error:
        raise checks.type_error(
            "a pair whose attributes can be copied",
            f"a {type(pair).__name__} where Python says: {error}",
            "Keep generators, locks, open files and lists of results outside of it.",
        ) from error


def require_trainable(pair: Pair) -> None:
    """Raise ValueError unless a parameter of the pair requires a gradient."""
    parameters = list(pair.parameters())
    if not any(parameter.requires_grad for parameter in parameters):
        raise checks.value_error(
            "a pair with a parameter to train",
            f"{len(parameters)} of which none requires a gradient" if parameters else "none",
            "Call pair.requires_grad_() first." if parameters else "Give it an nn.Parameter.",
        )
