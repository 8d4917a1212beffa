"""What training reads: anything with a length and ``batch(index)``, or a tensor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.pair import Pair


@runtime_checkable
class Batches(Protocol):
    """Data that stay on a device and give batches by index, as `ppl_vae.data.ImageData` does."""

    def __len__(self) -> int: ...

    def to(self, device: torch.device | str, /) -> Batches:
        """Return the data on `device`."""
        ...

    def batch(self, index: slice | Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Return the examples at `index` as floats."""
        ...


class TensorBatches:
    """A tensor of examples, or one example that is a whole batch (the toy's single data set).

    What made the tensor is no part of what is trained or measured.
    """

    def __init__(self, x: Tensor, *, whole: bool) -> None:
        self._x = x.detach()
        self._whole = whole

    def __len__(self) -> int:
        return 1 if self._whole else len(self._x)

    def to(self, device: torch.device | str) -> TensorBatches:
        """Return the data on `device`."""
        return TensorBatches(self._x.to(device), whole=self._whole)

    def batch(self, index: slice | Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Return the examples at `index`, or the one data set."""
        return self._x.to(dtype) if self._whole else self._x[index].to(dtype)


def as_batches(data: object, pair: Pair) -> Batches:
    """Return `data` on the pair's device, after a look at it.

    A tensor is checked whole; of other data the first batch is.

    Raises:
        TypeError: neither a tensor nor data with ``batch(index)``; or what `Pair.check` raises.
        ValueError: what `Pair.check` raises.
    """
    if isinstance(data, Tensor):
        x = data.to(pair.device)
        pair.check(x)
        return TensorBatches(x, whole=pair.num_examples(x) != len(x))
    if not isinstance(data, Batches):
        raise TypeError(
            checks.message(
                "data as a tensor or with a length, to(device) and batch(index)",
                type(data).__name__,
                "Use ppl_vae.data.load, or pass a tensor.",
            )
        )
    found = data.to(pair.device)
    if len(found) == 0:
        raise ValueError(checks.message("at least one example", "none", "Pass data."))
    pair.check(found.batch(slice(0, min(len(found), 100)), dtype=pair.dtype))
    return found


def shuffled(data: Batches, batch_size: int, pair: Pair) -> Iterator[Tensor]:
    """Yield the examples once, in a random order of torch's global stream."""
    order = torch.randperm(len(data), device=pair.device)
    for index in order.split(batch_size):
        yield data.batch(index, dtype=pair.dtype)


def in_order(data: Batches, batch_size: int, pair: Pair) -> Iterator[Tensor]:
    """Yield the examples once, as they stand."""
    for start in range(0, len(data), batch_size):
        yield data.batch(slice(start, start + batch_size), dtype=pair.dtype)
