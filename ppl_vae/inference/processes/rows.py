"""Some rows of a batch, with the noise that they have when all rows are drawn together.

Every process draws for the whole batch, from the same stream, and keeps what belongs to its rows:
so the noise of an example is the same however many processes there are, and what the processes
draw next is the same too. The draws are seen where torch makes them, below autograd, whatever
program, network or estimator asks for them.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

aten = torch.ops.aten

# How many numbers of the stream they take depends on their parameters: each row has its own.
_REJECTING: set[Any] = {
    aten._standard_gamma.default,
    aten._sample_dirichlet.default,
    aten.poisson.default,
    aten.binomial.default,
}


class UnsplittableError(NotImplementedError):
    """A draw that is not one of rows of the batch, nor the same for all of them."""


@dataclass(frozen=True)
class Place:
    """Where the examples are in what is drawn: along `dim`, each of them `before * after` times.

    Attributes:
        operation: what draws.
        dim: the dimension; None for a draw that all examples share.
        before: how many numbers of the dimension's are in front of each example's first.
        after: how many each example has in a row.
    """

    operation: Any
    dim: int | None
    before: int = 1
    after: int = 1


@dataclass
class Plan:
    """Where the examples are in each draw of a program, in their order."""

    places: list[Place] = field(default_factory=list)

    def rows(self, start: int, count: int, total: int) -> AbstractContextManager[object]:
        """Return the block in which the program draws as for rows of a batch of `total`."""
        if count == total and not any(place.operation in _REJECTING for place in self.places):
            return nullcontext()
        return _Rows(self, start, count, total)


class Recording(TorchDispatchMode):
    """Notes what is drawn in a block: operations and shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.draws: list[tuple[Any, torch.Size]] = []

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        result = func(*args, **(kwargs or {}))
        if _draws(func):
            self.draws.append((func, (result if isinstance(result, Tensor) else result[0]).shape))
        return result


def plan_of(whole: Recording, part: Recording, counts: tuple[int, int], *, last: bool) -> Plan:
    """Return where the examples are in the draws of a program, from two batches of other lengths.

    Args:
        whole: the draws for one of them.
        part: those for the other.
        counts: their numbers of examples.
        last: of a dimension of several numbers an example, whether these follow each other (an
            example's entries) or are apart (particles).

    Raises:
        UnsplittableError: the program draws otherwise for more examples.
    """
    if [func for func, _ in whole.draws] != [func for func, _ in part.draws]:
        raise UnsplittableError("the number of its draws depends on that of the examples")
    plan = Plan()
    for (func, many), (_, few) in zip(whole.draws, part.draws, strict=True):
        differ = [dim for dim, (a, b) in enumerate(zip(many, few, strict=False)) if a != b]
        if not differ and len(many) == len(few):
            plan.places.append(Place(func, None))
            continue
        each, rest = divmod(many[differ[0]], counts[0]) if len(differ) == 1 else (0, 1)
        if rest or few[differ[0]] != each * counts[1] or func is aten.randperm.default:
            raise UnsplittableError(f"{func} draws {tuple(many)} numbers for {counts[0]} examples")
        plan.places.append(Place(func, differ[0], *((1, each) if last else (each, 1))))
    return plan


class _Rows(TorchDispatchMode):
    """Draws for a whole batch, and gives what belongs to some rows of it."""

    def __init__(self, plan: Plan, start: int, count: int, total: int) -> None:
        super().__init__()
        self._left = iter(plan.places)
        self._start, self._count, self._total = start, count, total

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        if not _draws(func):
            return func(*args, **kwargs)
        place = next(self._left, None)
        if place is None or place.operation is not func:
            raise UnsplittableError("it draws other numbers at this step than at the first one")
        if place.dim is None:
            return func(*args, **kwargs)
        if func in _REJECTING:
            return self._row_by_row(func, args, place)
        result = func(*self._widened(func, args, place), **kwargs)
        if func._schema.is_mutable:
            return args[0].copy_(self._own(result, place))
        return tree_map_only(Tensor, lambda t: self._own(t, place), result)

    def _widened(self, func: Any, args: tuple[Any, ...], place: Place) -> list[Any]:  # noqa: ANN401
        """Return arguments of the whole batch: other rows, whose draws nobody keeps, are 1/2."""
        named = zip(func._schema.arguments, args, strict=False)
        return [
            self._longer(value, place)
            if isinstance(value, Tensor)
            else self._size(value, place)
            if argument.name == "size"
            else value
            for argument, value in named
        ]

    def _size(self, size: Any, place: Place) -> list[int]:  # noqa: ANN401
        assert place.dim is not None
        wide = list(size)
        wide[place.dim] = place.before * self._total * place.after
        return wide

    def _longer(self, t: Tensor, place: Place) -> Tensor:
        assert place.dim is not None
        if t.dim() <= place.dim or t.shape[place.dim] != place.before * self._count * place.after:
            return t  # it is broadcast
        filling = 0.5 if t.is_floating_point() else 1
        wide = t.new_full(self._size(t.shape, place), filling)
        self._own(wide, place, whole=True).copy_(self._apart(t, place, self._count))
        return wide

    def _own(self, wide: Tensor, place: Place, *, whole: bool = False) -> Tensor:
        assert place.dim is not None
        apart = self._apart(wide, place, self._total)
        own = apart.narrow(place.dim + 1, self._start, self._count)
        return own if whole else own.flatten(place.dim, place.dim + 2)

    def _apart(self, t: Tensor, place: Place, count: int) -> Tensor:
        assert place.dim is not None
        shape = [*t.shape]
        shape[place.dim : place.dim + 1] = [place.before, count, place.after]
        return t.view(shape) if t.is_contiguous() else t.reshape(shape)

    def _row_by_row(self, func: Any, args: tuple[Any, ...], place: Place) -> Tensor:  # noqa: ANN401
        assert place.dim is not None
        base = int(torch.randint(2**31, ()))
        parts = [self._apart(t, place, self._count) for t in args if isinstance(t, Tensor)]
        generator = torch.Generator(parts[0].device)
        rows = []
        for row in range(self._count):
            generator.manual_seed(base + self._start + row)
            each = [t.narrow(place.dim + 1, row, 1) for t in parts]
            rows.append(func(*each, generator=generator))
        return torch.cat(rows, place.dim + 1).flatten(place.dim, place.dim + 2)


def _draws(func: Any) -> bool:  # noqa: ANN401
    return torch.Tag.nondeterministic_seeded in func.tags
