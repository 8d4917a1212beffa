"""How parameters are perturbed, and which of many states are worth a visit."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def perturbed(value: Tensor, strength: float, gain: float, random: torch.Generator) -> Tensor:
    """Return a parameter's value after a perturbation.

    Args:
        value: before.
        strength: of the noise, relative to the entries of a matrix, absolute for all else.
        gain: a factor on a matrix.
        random: the source of the noise.
    """
    noise = torch.randn(value.shape, generator=random).to(value)
    level, tilt, _ = torch.randn(3, generator=random).tolist()
    if value.dim() >= 2:
        size = float(value.square().mean().sqrt())
        return gain * (value + strength * max(size, 1e-3) * noise)
    # A shift of all entries, and one of their two halves against each other: last layers often
    # hold locations and log-scales side by side.
    length = max(value.numel(), 1)
    sides = torch.linspace(-1, 1, length).sign().reshape(value.shape).to(value)
    small = 1 / math.sqrt(2)
    return value + strength * small * (level + tilt * sides + 0.5 * noise)


def spread_out(rows: list[Tensor], count: int) -> list[int]:
    """Return which rows to take in addition to the first, each far from those taken before."""
    table = torch.stack(rows)[:, :4].clone()
    table[:, 3] = table[:, 3].clamp_min(1e-6).log()
    spread = table.std(0) if len(table) > 1 else torch.ones(4, dtype=table.dtype)
    table = (table - table.mean(0)) / spread.clamp_min(1e-9)
    distance = (table - table[0]).square().sum(1)
    chosen: list[int] = []
    for _ in range(min(count, len(rows) - 1)):
        place = int(distance.argmax())
        if place == 0 or place in chosen:
            break
        chosen.append(place)
        distance = torch.minimum(distance, (table - table[place]).square().sum(1))
    return chosen
