"""What the toys have in common: an example is a whole data set, with one latent."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import pyro
import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.pair import Pair
from ppl_vae.seeding import Seed


class DataSetPair(Pair):
    """A pair whose data are one data set of n numbers, (n,), or several, (batch, n).

    Each data set is one example with a latent of its own; the plate ``data`` is over data sets.
    """

    def check(self, x: Tensor) -> None:
        """Raise unless `x` is one data set, (n,), or a batch of them, (batch, n)."""
        super().check(x)
        if x.dim() not in (1, 2):
            raise checks.value_error(
                "x of shape (n,), one data set, or (batch, n), several",
                f"shape {tuple(x.shape)}",
                "Give every data set a row of its own.",
            )

    def num_examples(self, x: Tensor) -> int:
        """Return the number of data sets: 1 for (n,), batch for (batch, n)."""
        return len(x) if x.dim() == 2 else 1

    def blank(self, n: int) -> Tensor:
        """Return one data set of `n` zeros."""
        return torch.zeros(n, dtype=self.dtype, device=self.device)

    def sample(self, n: int, *, seed: Seed = None, num_datasets: int | None = None) -> Tensor:
        """Draw one data set of `n` numbers, (n,), or several, (num_datasets, n)."""
        blank = self.blank(checks.count("n", n))
        if num_datasets is not None:
            blank = blank.expand(checks.count("num_datasets", num_datasets), n)
        with torch.no_grad():
            return self._sample_like(blank, seed)


def data_plate(x: Tensor) -> AbstractContextManager[object]:
    """Return the plate over data sets; none for a single one."""
    return pyro.plate("data", len(x), dim=-1) if x.dim() == 2 else nullcontext()
