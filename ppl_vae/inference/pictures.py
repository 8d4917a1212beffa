"""The pictures that fit a pair."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ppl_vae import plots
from ppl_vae.inference.batches import Batches
from ppl_vae.inference.history import History
from ppl_vae.pair import Pair
from ppl_vae.seeding import seeded
from ppl_vae.vae import VAE

NUM_SAMPLES = 64
NUM_RECONSTRUCTIONS = 16
NUM_CODES = 10_000


def draw_run(path: Path, pair: Pair, data: Batches, history: History) -> list[Path]:
    """Draw a run's ELBO history and what else fits its pair; return the files."""
    curves = {"train": history.train_elbo, "test": history.test_elbo}
    pictures: dict[str, Callable[[], Axes]] = {
        "elbo.png": lambda: plots.elbo_history({k: v for k, v in curves.items() if v})
    }
    if isinstance(pair, VAE):
        pictures |= vae_pictures(pair, data)
    for name, draw in pictures.items():
        plots.save(draw(), path / name)
    return [path / name for name in pictures]


def vae_pictures(pair: VAE, data: Batches) -> dict[str, Callable[[], Axes]]:
    """Return functions that draw inputs, reconstructions, samples and the latent plane."""
    shape = pair.image_shape
    x = data.batch(slice(0, NUM_SAMPLES), dtype=pair.dtype).reshape(-1, *shape)
    pictures: dict[str, Callable[[], Axes]] = {
        "inputs.png": lambda: plots.image_grid(_array(x)),
        "reconstructions.png": lambda: plots.reconstructions(
            _array(x[:NUM_RECONSTRUCTIONS]), _array(pair.reconstruct(x[:NUM_RECONSTRUCTIONS]))
        ),
        "samples.png": lambda: plots.image_grid(
            _array(prior_means(pair, NUM_SAMPLES)), title="means of p(x | z), z from the prior"
        ),
    }
    if pair.latent_dim == 2:
        pictures["latent_walk.png"] = lambda: plots.latent_walk(decoder(pair))
        labels = getattr(data, "labels", None)
        if labels is not None:
            pictures["latent_scatter.png"] = lambda: plots.latent_scatter(
                _codes(pair, data), labels[:NUM_CODES].cpu().numpy()
            )
    return pictures


@torch.no_grad()
def prior_means(pair: VAE, count: int, *, seed: int = 0) -> torch.Tensor:
    """Return the mean images of p(x | z) at `count` draws of z from the prior."""
    with seeded(seed, pair.device):
        z = torch.randn(count, pair.latent_dim, dtype=pair.dtype, device=pair.device)
    return pair.likelihood(z).mean


def decoder(pair: VAE) -> Callable[[NDArray[np.floating]], NDArray[np.floating]]:
    """Return a function from codes, (count, latent_dim), to mean images, as arrays."""

    @torch.no_grad()
    def decode(codes: NDArray[np.floating]) -> NDArray[np.floating]:
        z = torch.as_tensor(codes, dtype=pair.dtype, device=pair.device)
        return _array(pair.likelihood(z).mean)

    return decode


@torch.no_grad()
def _codes(pair: VAE, data: Batches) -> NDArray[np.floating]:
    count = min(len(data), NUM_CODES)
    parts = [
        pair.encode(data.batch(slice(start, min(start + 1000, count)), dtype=pair.dtype))[0]
        for start in range(0, count, 1000)
    ]
    return _array(torch.cat(parts))


def _array(images: torch.Tensor) -> NDArray[np.floating]:
    return images.float().cpu().numpy()
