"""What a step takes on many GPUs, from stated speeds, without a GPU."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from ppl_vae import plots

# Bytes a second and seconds of one GPU: in a machine of eight, and between machines.
NVLINK, NETWORK, HOP_INSIDE, HOP_BETWEEN = 300e9, 40e9, 4e-6, 12e-6
NORMALS, MEMORY = 5e10, 2e12  # draws a second; bytes a second
GPUS = [1, 8, 16, 32, 64, 128, 256, 512, 1024]
# name: parameters, latents and pixels of an example, examples a GPU, seconds of its gradient
MODELS = {
    "MLP, 0.8 M parameters": (0.8e6, 20, 784, 512, 1.5e-3),
    "convolutional, 10 M": (10e6, 128, 3 * 64 * 64, 256, 20e-3),
    "deep hierarchy, 100 M": (100e6, 20_000, 3 * 64 * 64, 64, 150e-3),
}


def on_paper(name: str, gpus: int) -> dict[str, object]:
    """Return the milliseconds of a step on many GPUs, each with as many examples as one has."""
    parameters, latents, pixels, examples, gradient = MODELS[name]
    size, inside, machines = 4 * parameters, min(gpus, 8), math.ceil(gpus / 8)
    # A ring in each machine, and one between machines for the eighth that each GPU holds.
    reduced = 2 * (inside - 1) / inside * size / NVLINK + 2 * math.log2(inside) * HOP_INSIDE
    reduced += 2 * (machines - 1) / machines * size / inside / NETWORK
    reduced += 2 * math.log2(machines) * HOP_BETWEEN
    # Noise and bytes of the whole batch are drawn and gathered by all: 9 bytes a binarised pixel.
    whole = gpus * examples * (latents / NORMALS + 9 * pixels / MEMORY)
    step = gradient + reduced + whole
    return {
        "model": name,
        "GPUs": gpus,
        "gradient ms": round(1e3 * gradient, 2),
        "all-reduce ms": round(1e3 * reduced, 3),
        "whole batch ms": round(1e3 * whole, 3),
        "step ms": round(1e3 * step, 2),
        "efficiency": round((gradient + whole / gpus) / step, 3),
    }


def draw(paper: pd.DataFrame, out: Path) -> None:
    """Draw the efficiency on paper over the number of GPUs."""
    _, axes = plots.subplots(size=(6.5, 3.6))
    ax = axes[0, 0]
    for name, part in paper.groupby("model", sort=False):
        ax.plot(part["GPUs"], part["efficiency"], marker="o", label=name)
    ax.set_xscale("log", base=2)
    ax.set_ylim(0, 1.05)
    ax.set_xlabel("GPUs, each with a batch of its own")
    ax.set_ylabel("examples a second and GPU,\nof what one GPU does")
    ax.legend(loc="lower left")
    plots.save(ax, out / "on_paper.png")
