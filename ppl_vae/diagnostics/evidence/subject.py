"""What a diagnostic is done on: a copy of the pair, and its data, on one device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ppl_vae import checks, devices
from ppl_vae.batch import Batch, Data, unpacked
from ppl_vae.diagnostics.evidence.density.particles import Particles
from ppl_vae.functions import Functions, as_argument, copied
from ppl_vae.inference.batches import (
    DataLike,
    DataSource,
    LoaderBatches,
    TensorBatches,
    all_examples,
    as_batches,
)
from ppl_vae.inference.loaders import require_order
from ppl_vae.pair import Pair, leaving_no_params
from ppl_vae.seeding import derive, reseed, seeded

CHUNK = 1000


@dataclass(frozen=True)
class Subject:
    """A pair, or a model and a guide, with data that were checked.

    Attributes:
        pair: a copy on the device in evaluation mode, or the two functions.
        data: on the same device.
        dtype: of the examples.
        device: where they are.
        seed: of the data's binarisation.
    """

    pair: Pair | Functions
    data: DataSource
    dtype: torch.dtype
    device: torch.device
    seed: int

    def chunks(self) -> Iterator[Data]:
        """Yield the examples in order, at most `CHUNK` at a time; all of a tensor at once."""
        if isinstance(self.data, LoaderBatches):
            yield from (x.to(self.dtype) for x in self.data)
            return
        size = len(self.data) if isinstance(self.data, TensorBatches) else CHUNK
        for start in range(0, len(self.data), size):
            # A stream for each part, so that what is drawn between two does not change the images.
            reseed(derive(self.seed, start), self.device)
            yield self.data.batch(slice(start, start + size), dtype=self.dtype)

    @property
    def name(self) -> str:
        """The pair's class, or what the functions are called."""
        if isinstance(self.pair, Pair):
            return type(self.pair).__name__
        return ", ".join(getattr(f, "__name__", type(f).__name__) for f in self.pair)

    def particles(self, plate: str) -> Particles:
        """Return how the program can be run on such data."""
        reseed(derive(self.seed, "look"), self.device)
        with torch.no_grad():
            return Particles.look(self.pair, next(self.chunks()), plate)

    def in_float64(self) -> Subject:
        """Return the subject with pair and data in float64; functions stay as they are."""
        if not isinstance(self.pair, Pair):
            return self
        pair = copied(self.pair).double()
        data = self.data
        if isinstance(data, TensorBatches):
            data = data.to(pair.device)
        return replace(self, pair=pair, data=data, dtype=torch.float64)


@contextmanager
def prepared(
    pair: Pair | Functions,
    data: DataLike,
    *,
    seed: int,
    device: str | torch.device,
) -> Iterator[Subject]:
    """Check pair and data, and put global random state and Pyro's param store back at the end.

    Functions cannot be copied and stay where they are: for them ``auto`` is where the data are.

    Raises:
        TypeError: neither a pair nor two functions; data of a wrong kind.
        ValueError: data that the pair cannot score, or a loader that shuffles.
    """
    if isinstance(pair, Pair):
        where = devices.resolve(device)
        with leaving_no_params(), seeded(seed, where):
            twin, found = as_batches(copied(pair).to(where).eval(), data, CHUNK)
            if isinstance(found, LoaderBatches):
                require_order(found.loader)
            yield Subject(twin, found, twin.dtype, where, seed)
        return
    x = as_argument(pair, all_examples(data))
    for tensor in [x] if isinstance(x, Tensor) else x.tensors:
        checks.finite("x", checks.nonempty("x", tensor))
    where = x.device if device == "auto" else devices.resolve(device)
    with leaving_no_params(), seeded(seed, where):
        x = x.to(where)
        if isinstance(x, Batch):
            model, guide = pair
            pair = unpacked(model), unpacked(guide)
        yield Subject(pair, TensorBatches(x, whole=x.dim() == 0), x.dtype, where, seed)
