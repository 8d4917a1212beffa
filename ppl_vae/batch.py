"""What one call of a program is given: a tensor, a tuple of tensors, or a mapping of them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ppl_vae import checks


class Batch:
    """The arguments of a program where they are more than one tensor, example by example.

    It can be indexed, split, moved and converted as a tensor of examples can, all entries
    together. An entry may be None, where the program has a default. A conversion of dtype leaves
    whole numbers and booleans as they are.

    Args:
        args: the arguments by position; the tensors have the same first dimension.
        kwargs: the arguments by name, likewise.

    Raises:
        TypeError: an entry that is neither a tensor nor None, a name that is no string.
        ValueError: no tensor, one without a first dimension, or first dimensions that differ.

    Example:
        >>> batch = Batch(kwargs={"x": torch.zeros(3, 2), "y": torch.tensor([0, 1, 1])})
        >>> len(batch), batch[:2].call(lambda x, y: (x.shape, y.tolist()))
        (3, (torch.Size([2, 2]), [0, 1]))
    """

    def __init__(
        self, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> None:
        self.args, self.kwargs = tuple(args), dict(kwargs or {})
        for name, entry in self._named():
            if not isinstance(name, str):
                raise checks.type_error(
                    "a mapping from the program's arguments to tensors",
                    f"the key {name!r}",
                    "Use the arguments' names.",
                )
            if entry is not None and not isinstance(entry, Tensor):
                raise checks.type_error(
                    f"{name} as a torch tensor or None",
                    type(entry).__name__,
                    "Bind what is not one number or row per example by functools.partial.",
                )
        self._check_lengths()

    def _check_lengths(self) -> None:
        lengths = {
            name: len(entry) if entry.dim() else None
            for name, entry in self._named()
            if entry is not None
        }
        if not lengths:
            raise checks.value_error("at least one tensor in a batch", "none", "Pass data.")
        if None in lengths.values() or len(set(lengths.values())) > 1:
            shapes = ", ".join(f"{n} {tuple(t.shape)}" for n, t in self._named() if t is not None)
            raise checks.value_error(
                "tensors whose first dimension is the examples, the same in all",
                shapes,
                "Bind what all examples share by functools.partial.",
            )

    def _named(self) -> Iterator[tuple[str, Any]]:
        yield from ((f"entry {place} of the batch", each) for place, each in enumerate(self.args))
        yield from self.kwargs.items()

    @property
    def tensors(self) -> list[Tensor]:
        """The entries that are not None."""
        return [each for each in (*self.args, *self.kwargs.values()) if each is not None]

    def call(self, function: Callable[..., Any]) -> Any:  # noqa: ANN401
        """Return what a function of these arguments gives."""
        return function(*self.args, **self.kwargs)

    def bind(self, function: Callable[..., Any]) -> dict[str, Any]:
        """Return the entries by the names of a function's arguments, its defaults too.

        Raises:
            TypeError: the function does not take them.
        """
        return bind(function, self.args, self.kwargs, repr(self))

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """Return the batch with every tensor replaced."""
        made = Batch.__new__(Batch)
        made.args = tuple(None if each is None else function(each) for each in self.args)
        made.kwargs = {
            name: None if each is None else function(each) for name, each in self.kwargs.items()
        }
        return made

    def to(self, target: torch.device | torch.dtype | str | None) -> Batch:
        """Return it on another device, or its floating tensors of another dtype."""
        if isinstance(target, torch.dtype):
            return self.map(lambda t: t.to(target) if t.is_floating_point() else t)
        return self if target is None else self.map(lambda t: t.to(target))

    def detach(self) -> Batch:
        """Return it without the graphs that made its tensors."""
        return self.map(Tensor.detach)

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: Any) -> Batch:  # noqa: ANN401
        return self.map(lambda t: t[index])

    def split(self, size: int) -> list[Batch]:
        """Return its parts of `size` examples; the last may be smaller."""
        return [self[start : start + size] for start in range(0, len(self), size)]

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.tensors[0].device

    @property
    def dtype(self) -> torch.dtype:
        """Of the floating tensors; torch's default where there is none."""
        found = [t.dtype for t in self.tensors if t.is_floating_point()]
        return found[0] if found else torch.get_default_dtype()

    @property
    def shape(self) -> torch.Size:
        """Of the first tensor."""
        return self.tensors[0].shape

    def dim(self) -> int:
        """Return the number of dimensions of the first tensor, at least 1."""
        return self.tensors[0].dim()

    def numel(self) -> int:
        """Return how many numbers all tensors have."""
        return sum(t.numel() for t in self.tensors)

    def new_zeros(self, *shape: int) -> Tensor:
        """Return zeros of its dtype on its device."""
        return torch.zeros(*shape, dtype=self.dtype, device=self.device)

    def __repr__(self) -> str:
        def shown(entry: Tensor | None) -> str:
            return "None" if entry is None else str(tuple(entry.shape))

        parts = [*map(shown, self.args), *(f"{n}={shown(t)}" for n, t in self.kwargs.items())]
        return f"batch({', '.join(parts)})"


def bind(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], shown: str
) -> dict[str, Any]:
    """Return arguments by a function's names for them, with its defaults; see `Batch.bind`."""
    signature = inspect.signature(function)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise checks.type_error(
            f"a batch for {_name(function)}{_without_types(signature)}",
            f"{shown}: {error}",
            "Name the program's own arguments, in a mapping, or give them in its order.",
        ) from None
    for name, value in bound.arguments.items():
        if value is None and signature.parameters[name].default is inspect.Parameter.empty:
            raise checks.value_error(
                f"a tensor for {name!r}, for which {_name(function)} has no default",
                "None",
                "Pass a tensor.",
            )
    bound.apply_defaults()
    return dict(bound.arguments)


Data = Tensor | Batch
BatchLike = Tensor | tuple[Any, ...] | list[Any] | Mapping[str, Any] | Batch  # as users pass it


def is_batch(data: object) -> bool:
    """Return whether data are a tensor, or a tuple, list or mapping that is to hold tensors."""
    if isinstance(data, (tuple, list)):  # a list of numbers is no batch
        return any(each is None or isinstance(each, Tensor) for each in data)
    return isinstance(data, (Tensor, Batch, Mapping))


def as_batch(data: object) -> Data:
    """Return a batch as the library passes it on: a tensor, or the arguments of a program.

    Args:
        data: a tensor; a tuple (or list) of tensors and None; a mapping of them.

    Raises:
        TypeError: something else, or such entries.
        ValueError: entries whose first dimensions differ.

    Example:
        >>> as_batch((torch.zeros(3, 2), torch.zeros(3)))
        batch((3, 2), (3,))
    """
    if isinstance(data, (Tensor, Batch)):
        return data
    if is_batch(data):
        entries = Batch(kwargs=data) if isinstance(data, Mapping) else Batch(tuple(data))  # pyright: ignore[reportArgumentType]
        alone = len(entries.args) == 1 and not entries.kwargs
        return entries.args[0] if alone else entries
    loads, cuts = isinstance(data, (Dataset, DataLoader)), hasattr(data, "batch")
    one = "next(iter(loader))" if loads else "data.batch(slice(0, 100))"
    raise checks.type_error(
        "x as a torch tensor, a tuple of tensors or a mapping of them",
        type(data).__name__,
        f"Pass one batch, {one}." if loads or cuts else "Pass torch.as_tensor(x).",
    )


def unpacked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, made to take a `Batch` in the place of its arguments."""

    # So that its signature is the function's, and not what a module or partial holds.
    @functools.wraps(function, updated=())
    def of(*args: Any, **options: Any) -> Any:  # noqa: ANN401
        if len(args) == 1 and isinstance(args[0], Batch):
            return function(*args[0].args, **args[0].kwargs, **options)
        return function(*args, **options)

    return of


def _without_types(signature: inspect.Signature) -> inspect.Signature:
    plain = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return inspect.Signature(plain)


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", type(function).__name__)


@functools.cache
def takes_one(method: Callable[..., Any]) -> bool:
    """Return whether a method of a class can be called with one argument, as nearly all can."""
    parameters = list(inspect.signature(method).parameters.values())[2:]
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return all(p.default is not p.empty or p.kind in variadic for p in parameters)
