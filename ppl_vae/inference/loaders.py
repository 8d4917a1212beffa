"""PyTorch's data sets and loaders as what training reads."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    default_collate,
)

from ppl_vae import checks
from ppl_vae.batch import Data
from ppl_vae.functions import as_argument
from ppl_vae.pair import Pair

# Their order is fixed, or a function of their generator, or of torch's global stream.
REWINDABLE = (
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    list,
    tuple,
    range,
)


class DatasetBatches:
    """A map-style data set, whose examples are fetched and collated batch by batch.

    Args:
        dataset: with a length and ``dataset[i]``, a tensor or a tuple or mapping of tensors.
        device: where the batches go.

    Attributes:
        loads: that a batch is made in Python, so that no compiled step can gather it.
    """

    loads = True

    def __init__(self, dataset: Dataset[Any], device: torch.device | str = "cpu") -> None:
        self._dataset: Any = dataset
        self._device = device
        if not hasattr(dataset, "__len__"):
            raise checks.type_error(
                "a data set with a length",
                type(dataset).__name__,
                "Write __len__, or make it an IterableDataset.",
            )

    def __len__(self) -> int:
        return len(self._dataset)

    def to(self, device: torch.device | str) -> DatasetBatches:
        """Return the same with batches on `device`."""
        return DatasetBatches(self._dataset, device)

    def batch(self, index: slice | Tensor, *, dtype: torch.dtype | None = None) -> object:
        """Return the examples at `index`, collated as a ``DataLoader`` does."""
        places = range(len(self))[index] if isinstance(index, slice) else index.tolist()
        examples = [self._dataset[i] for i in places]
        try:
            collated = default_collate(examples)
        except (TypeError, RuntimeError, KeyError) as error:
            raise checks.type_error(
                "a data set whose examples are numbers, arrays or tensors of the same shape, or "
                "tuples or mappings of them",
                f"examples of which torch makes no batch: {error}",
                "Pad them and leave None out, or pass a DataLoader with a collate_fn of its own.",
            ) from None
        return _on(collated, self._device, dtype)


class LoaderBatches:
    """A ``DataLoader``, whose batches go to a pair's device and dtype.

    Args:
        loader: whose batches are a tensor, or a tuple or mapping of the model's arguments.
        pair: what they are for.

    Attributes:
        loader: as given.
        first: the first batch of an order that training does not use.
        num_batches: in a pass; None where the loader does not know.
        loads: as of `DatasetBatches`.

    Raises:
        ValueError: there is no batch.
    """

    loads = True

    def __init__(self, loader: DataLoader[Any], pair: Pair) -> None:
        self.loader, self._pair = loader, pair
        if isinstance(loader.dataset, IterableDataset) and iter(loader.dataset) is loader.dataset:
            raise checks.type_error(
                "an IterableDataset whose __iter__ starts from the beginning",
                f"{type(loader.dataset).__name__}, which is its own iterator",
                "Make a new iterator in __iter__, so that there can be a second epoch.",
            )
        try:
            self.num_batches: int | None = len(loader)
        except TypeError:
            self.num_batches = None
        states = [copy.deepcopy(g.get_state()) for g in self._generators()]
        self.first = next(iter(self))
        for generator, state in zip(self._generators(), states, strict=True):
            generator.set_state(state)

    def __iter__(self) -> Iterator[Data]:
        empty = True
        for batch in self.loader:
            empty = False
            yield as_argument(self._pair, _on(batch, self._pair.device, self._pair.dtype))
        if empty:
            raise checks.value_error(
                "at least one batch in every pass over the loader",
                "none",
                "Pass a loader that can be run through again, of at least one batch.",
            )

    def begin_epoch(self, epoch: int) -> None:
        """Tell sampler and data set which epoch it is, where they ask."""
        sampler = sampler_of(self.loader)
        for part in (sampler, getattr(sampler, "sampler", None), self.loader.dataset):
            set_epoch = getattr(part, "set_epoch", None)
            if set_epoch is not None:
                set_epoch(epoch)

    def state(self) -> dict[str, Any]:
        """Return what decides the order of the next epochs, beside torch's global stream."""
        if hasattr(self.loader, "state_dict"):
            return {"loader": self.loader.state_dict()}  # pyright: ignore[reportAttributeAccessIssue]
        return {"generators": [g.get_state() for g in self._generators()]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on as from `state`.

        Raises:
            ValueError: the loader cannot be rewound to where it was.
        """
        why = self._why_not_rewound()
        if why:
            raise checks.value_error(
                "a loader whose order can be repeated, to resume bit by bit",
                why,
                "Use a sampler of torch.utils.data with a seeded generator, write "
                "set_epoch(epoch), or pass the data set itself.",
            )
        if "loader" in state:
            self.loader.load_state_dict(state["loader"])  # pyright: ignore[reportAttributeAccessIssue]
        for generator, each in zip(self._generators(), state.get("generators", ()), strict=False):
            generator.set_state(each.cpu())

    def _why_not_rewound(self) -> str:
        loader = self.loader
        if hasattr(loader, "load_state_dict"):
            return ""
        if isinstance(loader.dataset, IterableDataset):
            if hasattr(loader.dataset, "set_epoch"):
                return ""
            return f"{type(loader.dataset).__name__}, an IterableDataset without set_epoch"
        sampler = sampler_of(loader)
        if type(sampler) in REWINDABLE or hasattr(sampler, "set_epoch"):
            return ""
        return f"a DataLoader with the sampler {type(sampler).__name__}"

    def _generators(self) -> list[torch.Generator]:
        held = [self.loader.generator, getattr(sampler_of(self.loader), "generator", None)]
        found: list[torch.Generator] = []
        for generator in held:
            if generator is not None and not any(generator is each for each in found):
                found.append(generator)
        return found


def sampler_of(loader: DataLoader[Any]) -> Any:  # noqa: ANN401
    """Return what decides the order of a loader's examples.

    A loader that is given a batch sampler has a sampler too, which it does not use.
    """
    batches: Any = loader.batch_sampler
    if batches is None:
        return loader.sampler
    return batches.sampler if type(batches) is BatchSampler else batches


def is_split_by_rank(data: object) -> bool:
    """Return whether data are this process's own part of what several train on.

    So are a data set or a loader that say so by an attribute ``split_by_rank``, and a loader with
    a ``DistributedSampler``.
    """
    if isinstance(data, DataLoader) and isinstance(sampler_of(data), DistributedSampler):
        return True
    whole = (data, getattr(data, "dataset", None))
    return any(getattr(each, "split_by_rank", False) is True for each in whole)


def require_order(loader: DataLoader[Any]) -> None:
    """Raise ValueError unless two passes give the same examples in the same order."""
    sampler = sampler_of(loader)
    if not isinstance(loader.dataset, IterableDataset) and not isinstance(
        sampler, SequentialSampler
    ):
        raise checks.value_error(
            "a loader that gives the examples in their order, as numbers per example do",
            f"one with the sampler {type(sampler).__name__}",
            "Pass shuffle=False, or the data set itself.",
        )


def _on(batch: Any, device: torch.device | str, dtype: torch.dtype | None) -> Any:  # noqa: ANN401
    """Return what a loader gives on a device, its floats in `dtype`."""
    if isinstance(batch, Tensor):
        moved = batch.to(device, non_blocking=True)
        return moved.to(dtype) if moved.is_floating_point() else moved
    if isinstance(batch, dict):
        return {name: _on(each, device, dtype) for name, each in batch.items()}
    if isinstance(batch, (tuple, list)):
        return tuple(_on(each, device, dtype) for each in batch)
    return batch
