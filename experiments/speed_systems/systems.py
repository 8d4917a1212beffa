"""The systems: a pair, its data, its batch size and its estimator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ppl_vae import BernoulliVAE, ConvGaussianVAE, ExponentialNormal, HierarchicalVAE, Pair, load

RATE = 1e-3
TOY_DATA = (1.2, 0.7, 1.1, 2.0, 0.4)


@dataclass
class System:
    """What is trained.

    Attributes:
        name: for the table.
        make: a fresh pair, always with the same weights.
        batch_size: examples a step.
        elbo: the estimator's name; with ``trace-mean-field`` the KL has a closed form.
        binarize: how grey pixels become those of a batch; None for the toy, whose one data set is
            every batch.
        num_particles: draws of the latents a step.
    """

    name: str
    make: Callable[[], Pair]
    batch_size: int
    elbo: str = "trace-mean-field"
    binarize: str | None = "dynamic"
    num_particles: int = 1

    def data(self, device: str, data_dir: Path | None, *, dataset: str = "mnist") -> Data:
        """Return what the batches are made of, on `device`."""
        if self.binarize is None:
            return Data(torch.tensor([TOY_DATA], device=device), None)
        options = {"pixel_range": (-1.0, 1.0)} if self.binarize == "none" else {}
        images = load(dataset, data_dir=data_dir, binarize=self.binarize, **options).to(device)
        return Data(images.images, images)


@dataclass
class Data:
    """Bytes of images and what makes batches of them, or the toy's numbers."""

    values: Tensor
    images: object

    def batch(self, index: Tensor) -> Tensor:
        """Return the examples at `index`."""
        return self.values[0] if self.images is None else self.images.batch(index)

    def random(self, batch_size: int) -> Tensor:
        """Return a random batch."""
        if self.images is None:
            return self.values[0]
        return self.batch(
            torch.randint(len(self.values), (batch_size,), device=self.values.device)
        )


_SYSTEMS = [
    System("toy", ExponentialNormal, 1, "trace", None),
    System("bernoulli, z 2", lambda: BernoulliVAE(latent_dim=2, seed=0), 100),
    System("bernoulli, z 50", lambda: BernoulliVAE(latent_dim=50, hidden=(400,), seed=0), 256),
    System("bernoulli, Burda", lambda: BernoulliVAE(latent_dim=50, hidden=(200, 200), seed=0), 20),
    System("conv gaussian", lambda: ConvGaussianVAE(seed=0), 256, binarize="none"),
    System("hierarchical", lambda: HierarchicalVAE(seed=0), 100, "trace"),
]
SYSTEMS = {system.name: system for system in _SYSTEMS}
