"""Settings and numbers of a sweep in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def interval_text(row: Any, name: str) -> str:  # noqa: ANN401
    """Return a measure of a row of means, with as many digits as its interval has."""
    mean, low, high = (float(row.get(n, math.nan)) for n in (name, f"{name}_low", f"{name}_high"))
    if math.isnan(mean):
        return "-"
    if name == "seconds":
        return f"{mean:.1f}"
    if not high > low:
        return f"{mean:.5g}"
    digits = max(0, 1 - math.floor(math.log10((high - low) / 2)))
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def label(names: Sequence[str], values: Sequence[Any]) -> str:
    """Return settings in words: names stand for themselves, numbers have their setting's."""
    words = []
    for name, value in zip(names, values, strict=True):
        plain = isinstance(value, str) and name in ("pair", "data", "elbo")
        words.append(text(value) if plain else f"{name} {text(value)}")
    return ", ".join(words)


def text(value: Any) -> str:  # noqa: ANN401
    """Return a setting's value; one that was not given is the default."""
    if value is None or value != value:
        return "default"
    return f"{value:g}" if isinstance(value, float) else str(value)
