"""Timing ways to take the same steps, in turn, after a look whether they are the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from speed_systems import by_hand
from speed_systems.systems import Data, System

OURS, OURS_BF16 = "compiled step", "compiled step, bf16"
# The compiled step against Pyro's; one loss of a hand-written form; a mean of NumPyro's; the
# compiled step in bfloat16.
SAME, WRITTEN, MEAN, LOWER = 1e-5, 1e-4, 0.03, 1e-2
# Seconds of a run that only shows that the script works.
SHORT = 0.1


def require(system: System, way: str, difference: float, limit: float) -> float:
    """Return the difference of a way's losses from Pyro's; end the run if it is too large."""
    if not difference <= limit:
        raise SystemExit(
            f"{system.name}: the losses of {way} differ from Pyro's by {difference:.1e}, more "
            f"than {limit:.0e}; no speed is printed"
        )
    return difference


def timed(
    system: System,
    data: Data,
    ways: dict[str, Callable[[int], object]],
    gaps: dict[str, float],
    seconds: float,
    runs: int,
    peak: float,
    device: str,
) -> list[dict[str, object]]:
    """Return one row for each way: its steps' time, its first call's time, the floor."""
    first, counts = {}, {}
    for way, take in ways.items():
        first[way] = clock(take, 4)
        few = 20 if seconds > SHORT else 4
        clock(take, few)
        counts[way] = max(few, 10 * int(seconds / clock(take, few) * few / 10))
        clock(take, counts[way])  # NumPyro compiles for this number of steps
    times = {way: [] for way in ways}
    for _ in range(runs):
        for way, take in ways.items():
            times[way].append(1e3 * clock(take, counts[way]) / counts[way])
    middle = {way: median(each) for way, each in times.items()}
    floor = 0.0 if data.images is None else 1e3 * operations(system, data, device) / peak
    if floor > min(min(each) for way, each in times.items() if way != OURS_BF16):
        floor = float("nan")  # the machine was busier when one large product was timed
    return [
        {
            "system": system.name,
            "way": way,
            "ms a step": middle[way],
            "min": min(each),
            "max": max(each),
            "of Pyro": middle[way] / middle["Pyro SVI"],
            "ours over it": middle[OURS] / middle[way],
            "loss off by": gaps.get(way, 0.0),
            "first call, s": first[way],
            "floor, ms": floor,
        }
        for way, each in times.items()
    ]


def clock(take: Callable[[int], object], steps: int) -> float:
    """Return what some steps take in seconds, waiting for the device at the end."""
    began = time.perf_counter()
    take(steps)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def products_per_second(device: str, size: int = 1024) -> float:
    """Return the floating-point operations a second of one large matrix product."""
    matrix = torch.randn(size, size, device=device)
    best = min(clock(lambda _: matrix @ matrix, 1) for _ in range(30))
    return 2 * size**3 / best


def operations(system: System, data: Data, device: str) -> int:
    """Return the floating-point operations of a step's matrix products and convolutions."""
    _, loss = by_hand.losses(system, device)
    with FlopCounterMode(display=False) as counter:
        loss(data.random(system.batch_size)).backward()
    return counter.get_total_flops()
