"""Does an epoch wait for the device? Each wait is an error within these blocks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pyro
import torch
from pyro.infer import TraceMeanField_ELBO
from pyro.optim import Adam
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gpu_parts.images import random_images
from gpu_parts.records import Case, Found, Records
from ppl_vae import BernoulliVAE, CompiledSVI, ImageData, fit

BATCH_SIZE = 50


class _NoReading(TorchDispatchMode):
    """Refuses to read a number from a tensor: what is a wait on a GPU, told on a CPU."""

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("called a synchronizing operation: a tensor was read")
        return func(*args, **(kwargs or {}))


@contextmanager
def no_waiting(device: torch.device) -> Iterator[None]:
    """Raise RuntimeError at each synchronisation within the block."""
    if device.type != "cuda":
        with _NoReading():
            yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


class _Watched:
    """Data for `fit` under which a wait between an epoch's first batch and its last is an error.

    Before the first and after the last one `fit` may read: the epoch's sum, once.
    """

    def __init__(self, data: ImageData, device: torch.device) -> None:
        self._data, self._device = data, device
        self._left = 0
        self._block: Any = None

    def __len__(self) -> int:
        return len(self._data)

    def to(self, device: torch.device | str) -> _Watched:
        self._data = self._data.to(device)
        return self

    def batch(self, index: slice | Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        if isinstance(index, slice):  # the look at the data before training
            return self._data.batch(index, dtype=dtype)
        if self._left == 0:
            self._left = len(self) // BATCH_SIZE
            self._block = no_waiting(self._device)
            self._block.__enter__()
        self._left -= 1
        x = self._data.batch(index, dtype=dtype)
        if self._left == 0:
            self._block.__exit__(None, None, None)
        return x


def run(records: Records, device: torch.device, *, smoke: bool) -> None:
    """Train an epoch in each way under the ban."""
    small = 4 * BATCH_SIZE if smoke else 40 * BATCH_SIZE
    records.do(_cases(device, small, "eager" if smoke else "inductor"), device)


def _cases(device: torch.device, count: int, backend: str) -> Iterator[Case]:
    yield "CompiledSVI.epoch", partial(_compiled, device, count, backend)
    if device.type == "cuda":  # on a CPU `fit` looks at every loss, which costs nothing there
        yield "fit, eager", partial(_fit, device, count)


def _make(device: torch.device, count: int) -> tuple[BernoulliVAE, ImageData]:
    return BernoulliVAE(seed=0).to(device), random_images(count)


def _compiled(device: torch.device, count: int, backend: str) -> Found:
    pair, data = _make(device, count)
    data = data.to(device)
    optim = Adam({"lr": 1e-3})
    svi = CompiledSVI(pair.model, pair.guide, optim, TraceMeanField_ELBO(), backend=backend)
    svi.epoch(data, BATCH_SIZE)  # traced, tried and compiled here
    with no_waiting(device), pyro.validation_enabled(False):  # noqa: FBT003
        losses = svi.epoch(data, BATCH_SIZE)
    if not svi.is_compiled:
        raise AssertionError(f"not compiled: {svi.why_eager}")
    if not bool(losses.isfinite().all()):
        raise AssertionError("a loss is not finite")
    return {"steps": len(losses)}


def _fit(device: torch.device, count: int) -> Found:
    pair, data = _make(device, count)
    watched: Any = _Watched(data, device)
    options = {"batch_size": BATCH_SIZE, "device": device, "compile": False, "progress": False}
    history = fit(pair, watched, num_epochs=2, **options)
    return {"steps": len(history) * count // BATCH_SIZE}
