"""What training and evaluation read: data that give batches by index, or a loader's batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from ppl_vae import checks
from ppl_vae.batch import Batch, BatchLike, Data, as_batch, is_batch
from ppl_vae.functions import Functions, as_argument, as_program
from ppl_vae.inference.loaders import DatasetBatches, LoaderBatches, require_order, sampler_of
from ppl_vae.pair import Pair

LOOK = 100


@runtime_checkable
class Batches(Protocol):
    """Data that stay on a device and give batches by index, as `ppl_vae.data.ImageData` does."""

    def __len__(self) -> int: ...

    def to(self, device: torch.device | str, /) -> Batches:
        """Return the data on `device`."""
        ...

    def batch(self, index: slice | Tensor, *, dtype: torch.dtype | None = None) -> Any:  # noqa: ANN401
        """Return the examples at `index`, a tensor, tuple or mapping; floats have `dtype`."""
        ...


@runtime_checkable
class Loads(Protocol):
    """Data that make a loader of their own, as `ppl_vae.data.ShardedData` do."""

    def loader(self, batch_size: int, /) -> DataLoader[Any]:
        """Return the batches; in order, until the loader's data set is told an epoch."""
        ...


# What `fit` and the diagnostics take.
DataLike = BatchLike | Batches | Dataset[Any] | DataLoader[Any] | Loads
# What they become.
DataSource = Batches | LoaderBatches


class TensorBatches:
    """A batch of all examples, or one example that is a whole batch (the toy's single data set).

    What made the tensors is no part of what is trained or measured.
    """

    def __init__(self, x: Data, *, whole: bool) -> None:
        self._x: Data = x.detach()
        self._whole = whole

    def __len__(self) -> int:
        return 1 if self._whole else len(self._x)

    def to(self, device: torch.device | str) -> TensorBatches:
        """Return the data on `device`."""
        return TensorBatches(self._x.to(device), whole=self._whole)

    def batch(self, index: slice | Tensor, *, dtype: torch.dtype | None = None) -> Data:
        """Return the examples at `index`, or the one data set."""
        return self._x.to(dtype) if self._whole else self._x[index].to(dtype)


class _Arguments:
    """Data whose batches are tuples or mappings, as the one argument of a program."""

    def __init__(self, data: Batches, pair: Pair | Functions) -> None:
        self._data, self._pair = data, pair

    def __len__(self) -> int:
        return len(self._data)

    def to(self, device: torch.device | str) -> _Arguments:
        """Return the data on `device`."""
        return _Arguments(self._data.to(device), self._pair)

    def batch(self, index: slice | Tensor, *, dtype: torch.dtype | None = None) -> Data:
        """Return the examples at `index`."""
        return as_argument(self._pair, self._data.batch(index, dtype=dtype))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        # Labels and classes of images, which pictures show.
        return getattr(self._data, name)


def as_batches(pair: Pair, data: DataLike, batch_size: int = LOOK) -> tuple[Pair, DataSource]:
    """Return a pair of one argument, and data on its device that give it, after a look at them.

    Tensors are checked whole; of other data the first batch is.

    Args:
        pair: what the data are for. It is returned as it is if its model takes one tensor.
        data: see `DataLike`.
        batch_size: of an iterable data set, which gives single examples.

    Raises:
        TypeError: data of another kind, arguments that the model does not take, or what
            `Pair.check` raises.
        ValueError: no example, or what `Pair.check` raises.
    """
    if isinstance(data, TensorDataset):
        data = data.tensors
    if is_batch(data):
        subject, x = as_program(pair, data)
        x = x.to(pair.device)
        subject.check(x)
        whole = isinstance(x, Tensor) and pair.num_examples(x) != len(x)
        return subject, TensorBatches(x, whole=whole)
    data = _loaded(data, batch_size)
    if isinstance(data, DataLoader):
        found = LoaderBatches(data, pair)
        first: object = found.first
    elif isinstance(data, (Batches, Dataset)):
        if isinstance(data, Dataset) and not isinstance(data, Batches):
            data = DatasetBatches(data)
        found = data.to(pair.device)
        if len(found) == 0:
            raise checks.value_error("at least one example", "none", "Pass data.")
        first = found.batch(slice(0, min(len(found), LOOK)), dtype=pair.dtype)
        if not (isinstance(first, Tensor) and first.is_floating_point()):
            found = _Arguments(found, pair)
    else:
        raise checks.type_error(
            "data as a tensor, a tuple or mapping of tensors, a Dataset, a DataLoader, or with a "
            "length, to(device) and batch(index)",
            type(data).__name__,
            "Use ppl_vae.data.load, or pass a tensor.",
        )
    subject, x = as_program(pair, first)
    subject.check(x)
    return subject, found


def shuffled(
    data: DataSource,
    batch_size: int,
    pair: Pair,
    loaded: Callable[[Tensor, Callable[[Tensor], Data]], Data] | None = None,
) -> Iterator[Data]:
    """Yield the examples once, in a random order of torch's global stream, or as loaded.

    Args:
        data: of a run.
        batch_size: of data without batches of their own.
        pair: whose device and dtype they have.
        loaded: takes an index and what loads a batch, where less than that is to be loaded.
    """
    if isinstance(data, LoaderBatches):
        yield from data
        return
    order = torch.randperm(len(data), device=pair.device)
    for index in order.split(batch_size):
        load = partial(data.batch, dtype=pair.dtype)
        if loaded is not None and getattr(data, "loads", False):
            yield loaded(index, load)
        else:
            yield load(index)


def in_order(data: DataSource, batch_size: int, pair: Pair) -> Iterator[Data]:
    """Yield the examples once, as they stand."""
    if isinstance(data, LoaderBatches):
        yield from data
        return
    for start in range(0, len(data), batch_size):
        yield data.batch(slice(start, start + batch_size), dtype=pair.dtype)


def num_batches(data: DataSource, batch_size: int) -> int | None:
    """Return the number of steps of an epoch; None for a loader without a length."""
    if isinstance(data, LoaderBatches):
        return data.num_batches
    return -(-len(data) // min(batch_size, len(data)))


def first_examples(data: DataSource, count: int, pair: Pair) -> Data:
    """Return at most `count` examples from the beginning; of a loader, of its first batch."""
    if isinstance(data, LoaderBatches):
        return data.first[:count]
    return data.batch(slice(0, count), dtype=pair.dtype)


def together(parts: list[Data]) -> Data:
    """Return batches behind each other as one."""
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)  # pyright: ignore[reportArgumentType, reportCallIssue]
    columns = zip(*(part.tensors for part in parts), strict=True)  # pyright: ignore[reportAttributeAccessIssue]
    joined = iter([torch.cat(column) for column in columns])
    return parts[0].map(lambda _: next(joined))


def all_examples(data: DataLike) -> object:
    """Return all that a data set or a loader holds as one batch, and a batch as it is.

    Raises:
        TypeError: a data set without a length.
        ValueError: a loader without a batch, or one that shuffles.
    """
    if isinstance(data, TensorDataset):
        return data.tensors
    data = _loaded(data, LOOK)
    if isinstance(data, DataLoader):
        require_order(data)
        parts = [as_batch(part) for part in data]
        if not parts:
            raise checks.value_error("at least one batch in the loader", "none", "Pass data.")
        return together(parts)
    if isinstance(data, Dataset) and not isinstance(data, Batches):
        data = DatasetBatches(data)
    return data.batch(slice(None)) if isinstance(data, Batches) else data


def _loaded(data: Any, batch_size: int) -> Any:  # noqa: ANN401
    """Return the loader of data that have no length, or make one; other data as they are."""
    if isinstance(data, IterableDataset):
        return DataLoader(data, batch_size=batch_size)
    return data.loader(batch_size) if isinstance(data, Loads) else data


def describe(data: DataLike) -> str:
    """Return what the data are, the same in every process, for a run's settings."""
    if isinstance(data, Tensor):
        return f"tensor {tuple(data.shape)}"
    if isinstance(data, TensorDataset):
        return describe(as_batch(data.tensors))
    if isinstance(data, DataLoader):
        return (
            f"DataLoader({_named(data.dataset)}, batch_size={data.batch_size}, "
            f"sampler={type(sampler_of(data)).__name__})"
        )
    if isinstance(data, Dataset) and type(data).__repr__ is object.__repr__:
        return _named(data)
    if isinstance(data, Batch) or not is_batch(data):
        return repr(data)
    return describe(as_batch(data))


def _named(dataset: Any) -> str:  # noqa: ANN401
    length = f" of {len(dataset)}" if hasattr(dataset, "__len__") else ""
    return f"{type(dataset).__name__}{length}"
