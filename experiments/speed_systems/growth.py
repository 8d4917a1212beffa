"""How the time of a step grows with batch size, latent dimension and particles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd

from ppl_vae import BernoulliVAE
from speed_systems import pyro_steps
from speed_systems.systems import SYSTEMS, System
from speed_systems.timing import OURS, SAME, require, timed


def grow(
    seconds: float,
    runs: int,
    device: str,
    data_dir: Path | None,
    backend: str,
    dataset: str,
    seed: int,
    *,
    smoke: bool,
) -> Iterator[pd.DataFrame]:
    """Yield the times of Pyro's step and of the compiled one as one size grows, so far."""
    sizes = {"batch size": [25, 100, 400], "latents": [2, 16, 128], "particles": [1, 4, 16]}
    if smoke:
        sizes = {"batch size": [10, 40]}
    found = []
    for size, values in sizes.items():
        for value in values:
            system = sized(size, value, smoke=smoke)
            data = system.data(device, data_dir, dataset=dataset)
            gap = pyro_steps.difference(system, data, device, backend, seed)
            gaps = {OURS: require(system, OURS, gap, SAME)}
            ways = {
                "Pyro SVI": pyro_steps.by_pyro(system, data, device),
                OURS: pyro_steps.by_graph(system, data, device, backend),
            }
            rows = timed(system, data, ways, gaps, seconds / 2, runs, 1.0, device)
            keep = ("way", "ms a step", "min", "max")
            found += [{"size": size, "value": value, **{k: r[k] for k in keep}} for r in rows]
            yield pd.DataFrame(found)


def sized(size: str, value: int, *, smoke: bool) -> System:
    """Return the Bernoulli VAE with z 2 and batch 100, one of its sizes changed."""
    shape, hidden = ((1, 8, 8), (32,)) if smoke else ((1, 28, 28), (256, 128))
    latent_dim = value if size == "latents" else 2
    system = replace(SYSTEMS["bernoulli, z 2"], name=f"bernoulli, {size} {value}")
    system.make = lambda: BernoulliVAE(shape, latent_dim=latent_dim, hidden=hidden, seed=0)
    if size == "batch size":
        return replace(system, batch_size=value)
    return replace(system, num_particles=value if size == "particles" else 1)
