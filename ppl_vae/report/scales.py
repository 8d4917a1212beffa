"""Axes of charts: their ends, their ticks, and paths between."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

MOST_POINTS = 300


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return about `count` round numbers from `low` to `high`."""
    step = (high - low) / count
    unit = 10.0 ** math.floor(math.log10(step))
    step = next(f * unit for f in (1, 2, 5, 10) if f * unit >= step * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return round numbers whose decimal logarithms lie from `low` to `high`."""
    factors = (1, 2, 5) if high - low < 2.5 else (1,)
    step = max(1, round((high - low) / 4))
    decades = range(math.floor(low), math.ceil(high) + 1)
    values = [f * 10.0**d for d in decades if d % step == 0 for f in factors]
    return [v for v in values if low - 1e-9 <= math.log10(v) <= high + 1e-9]


def padded(values: NDArray[np.floating]) -> tuple[float, float]:
    """Return the ends of an axis with some room at either end."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        margin = abs(low) * 0.05 or 1.0
        return low - margin, high + margin
    margin = 0.04 * (high - low)
    return low - margin, high + margin


def thinned(
    x: NDArray[np.floating], y: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return at most some hundred of the points, the first and the last among them."""
    if len(x) <= MOST_POINTS:
        return x, y
    kept = np.unique(np.linspace(0, len(x) - 1, MOST_POINTS).round().astype(int))
    return x[kept], y[kept]


def path(points: tuple[NDArray[np.floating], NDArray[np.floating]]) -> str:
    """Return an SVG path through points."""
    x, y = points
    if len(x) == 1:  # a dot: no line, but with a round end
        return f"M{x[0]:.2f} {y[0]:.2f}h0"
    return "M" + "L".join(f"{a:.2f} {b:.2f}" for a, b in zip(x, y, strict=True))
