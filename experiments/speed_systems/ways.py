"""All ways to take a system's steps, each after a look whether its losses are Pyro's."""

from __future__ import annotations

from collections.abc import Callable

import torch

from speed_systems import by_hand, pyro_steps
from speed_systems.systems import Data, System
from speed_systems.timing import LOWER, MEAN, OURS, OURS_BF16, SAME, WRITTEN, require

Ways = Callable[[int], object]


def ways_of(
    system: System,
    data: Data,
    device: str,
    backend: str,
    seed: int,
    *,
    mode: str | None = None,
    rounded: bool = False,
) -> tuple[dict[str, Ways], dict[str, float]]:
    """Return all ways to take the system's steps, and how far their losses are from Pyro's.

    Args:
        system: what is trained.
        data: what its batches are made of.
        device: where.
        backend: of the compiled step.
        seed: of the noise under which losses are compared.
        mode: of torch.compile.
        rounded: whether products are in a lower precision than float32, as in TF32.
    """
    same = pyro_steps.difference(system, data, device, backend, seed)
    gaps = {OURS: require(system, OURS, same, LOWER if rounded else SAME)}
    written = by_hand.difference(system, data, device, pyro_steps.LOSSES[system.elbo], seed)
    written = require(system, "PyTorch", written, LOWER if rounded else WRITTEN)
    gaps["PyTorch"] = gaps["torch.compile"] = written
    ways = {
        "Pyro SVI": pyro_steps.by_pyro(system, data, device),
        "PyTorch": by_hand.steps(system, data, device, compile=False),
    }
    if backend != "eager":
        ways["torch.compile"] = by_hand.steps(system, data, device, compile=True, mode=mode)
        add_numpyro(ways, gaps, system, data, device, seed)
    ways[OURS] = pyro_steps.by_graph(system, data, device, backend)
    if backend != "eager" and data.images is not None and not rounded:
        add_bf16(ways, gaps, system, data, device, seed)
    return ways, gaps


def add_bf16(
    ways: dict[str, Ways],
    gaps: dict[str, float],
    system: System,
    data: Data,
    device: str,
    seed: int,
) -> None:
    """Add the compiled step in bfloat16, if the processor has it."""
    try:
        steps = pyro_steps.by_graph(system, data, device, "inductor", "bf16")
    except ValueError:
        return
    gap = pyro_steps.difference(system, data, device, "inductor", seed, "bf16")
    gaps[OURS_BF16] = require(system, OURS_BF16, gap, LOWER)
    ways[OURS_BF16] = steps


def add_numpyro(
    ways: dict[str, Ways],
    gaps: dict[str, float],
    system: System,
    data: Data,
    device: str,
    seed: int,
) -> None:
    """Add NumPyro's steps, if it is installed and its JAX sees the device."""
    try:
        from speed_systems import by_numpyro
    except ImportError:
        return
    if device.startswith("cuda") and not by_numpyro.on_gpu():
        return
    take, mean_loss = by_numpyro.make(system, data)
    x = data.batch(torch.arange(system.batch_size, device=device))
    count = 20_000 if system.name == "toy" else 20
    pair = system.make().to(device)
    elbo = pyro_steps.LOSSES[system.elbo](
        num_particles=count, vectorize_particles=True, max_plate_nesting=1
    )
    torch.manual_seed(seed)
    expected = elbo.loss(pair.model, pair.guide, x)
    gap = abs(mean_loss(by_numpyro.array(x), count) - expected) / abs(expected)
    gaps["NumPyro"] = require(system, "NumPyro", gap, MEAN)
    ways["NumPyro"] = take
