"""Charts that follow the page: their colours, its width, its text size.

Positions are percentages. Lines are drawn in a square of 100 by 100 that is stretched to the room
there is; words stand beside them as the page's own text, so that they never shrink.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from ppl_vae.report.scales import log_ticks, nice_ticks, padded, path, thinned


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where, in percent, and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """A curve: its name, the number of its colour, whether it is dashed, and its path."""

    name: str
    colour: int
    dashed: bool
    path: str


@dataclass(frozen=True)
class LineChart:
    """Curves over one axis."""

    kind: ClassVar[str] = "lines"
    caption: str
    alt: str
    lines: Sequence[Line]
    x: Sequence[Tick]
    y: Sequence[Tick]
    x_label: str
    y_label: str


@dataclass(frozen=True)
class Dots:
    """A row of a `DotChart`: a name, dots with their intervals, and what is written beside them.

    Attributes:
        name: of the row.
        dots: (where, low, high, number of the colour), in percent.
        text: at the end of the row.
    """

    name: str
    dots: Sequence[tuple[float, float, float, int]]
    text: str


@dataclass(frozen=True)
class DotChart:
    """Dots with intervals, a row an estimator.

    Attributes:
        limits: dashed lines across, in percent.
        legend: names of the colours, if there are several.
    """

    kind: ClassVar[str] = "dots"
    caption: str
    alt: str
    rows: Sequence[Dots]
    x: Sequence[Tick]
    x_label: str
    limits: Sequence[float] = ()
    legend: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True)
class Histogram:
    """Bars over one axis: (left, width, height) in percent."""

    kind: ClassVar[str] = "histogram"
    caption: str
    alt: str
    bars: Sequence[tuple[float, float, float]]
    x: Sequence[Tick]
    x_label: str
    most: int


def line_chart(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    x_label: str,
    y_label: str,
    caption: str,
) -> LineChart | None:
    """Return curves of (x, y) by name; None if no finite point is there.

    Names that differ only by a final "train" or "test" share a colour; "test" is dashed.
    """
    points = {}
    for name, (x, y) in curves.items():
        x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        kept = np.isfinite(x) & np.isfinite(y)
        if kept.any():
            points[name] = x[kept], y[kept]
    if not points:
        return None
    everything = [np.concatenate(each) for each in zip(*points.values(), strict=True)]
    (left, right), (bottom, top) = (padded(each) for each in everything)
    colours: dict[str, int] = {}
    lines = []
    for name, (x, y) in points.items():
        colour = colours.setdefault(name.removesuffix("train").removesuffix("test"), len(colours))
        drawn = path(thinned(100 * (x - left) / (right - left), 100 * (top - y) / (top - bottom)))
        lines.append(Line(name, colour % 4, name.endswith("test"), drawn))
    told = [
        f"{name} from {y[0]:.4g} to {y[-1]:.4g} over {len(y)} points"
        if len(y) > 1
        else f"{name} {y[0]:.4g}, one point"
        for name, (_, y) in points.items()
    ]
    across = nice_ticks(left, right, 6)
    if all(np.array_equal(x, np.round(x)) for x, _ in points.values()):
        across = [t for t in across if t == round(t)]
    return LineChart(
        caption,
        f"Curves of {y_label} by {x_label}: {'; '.join(told)}.",
        lines,
        [Tick(100 * (t - left) / (right - left), f"{t:g}") for t in across],
        [Tick(100 * (top - t) / (top - bottom), f"{t:g}") for t in nice_ticks(bottom, top)],
        x_label,
        y_label,
    )


def ratio_chart(
    rows: Sequence[tuple[str, float, float, float]], *, caption: str, alt: str, x_label: str
) -> DotChart:
    """Return rows of (name, ratio, low, high), all above zero, on a logarithmic axis."""
    values = np.array([[ratio, low, high] for _, ratio, low, high in rows])
    ratios = values[:, 0]
    # An interval may be endless; the dots must all be there.
    low = math.floor(math.log10(max(values[:, 1].min(), ratios.min() / 30)) * 2) / 2
    high = math.ceil(math.log10(min(values[:, 2].max(), ratios.max() * 30)) * 2) / 2
    high = max(high, low + 0.5)

    def place(value: float) -> float:
        return float(np.clip(100 * (math.log10(value) - low) / (high - low), 0, 100))

    shown = [
        Dots(
            name,
            [(place(ratio), place(bottom), place(top), 0)],
            _plain(ratio)
            if bottom == top
            else f"{_plain(ratio)} ({_plain(bottom)} to {_plain(top)})",
        )
        for name, ratio, bottom, top in rows
    ]
    ticks = [Tick(place(value), _plain(value)) for value in log_ticks(low, high)]
    return DotChart(caption, alt, shown, ticks, x_label, [place(1.0)])


def score_chart(
    rows: Sequence[tuple[str, Sequence[float]]],
    *,
    limit: float,
    legend: Sequence[str],
    caption: str,
    alt: str,
    x_label: str,
) -> DotChart:
    """Return rows of (name, z-scores) between lines at +- `limit`; far ones are clipped."""
    end = 1.4 * limit

    def place(value: float) -> float:
        return float(np.clip(50 + 50 * value / end, 0, 100))

    shown = []
    for name, scores in rows:
        known = [(s, colour) for colour, s in enumerate(scores) if not math.isnan(s)]
        dots = [(place(s), place(s), place(s), colour) for s, colour in known]
        text = ", ".join(f"{s:+.1f}" for s, _ in known) or "not tested"
        shown.append(Dots(name, dots, text))
    ticks = [Tick(place(t), f"{t:g}") for t in (-limit, 0, limit)]
    return DotChart(caption, alt, shown, ticks, x_label, [place(-limit), place(limit)], legend)


def histogram(values: ArrayLike, *, x_label: str, caption: str) -> Histogram | None:
    """Return a histogram of the finite values; None if there is none."""
    found = np.asarray(values, dtype=float)
    found = found[np.isfinite(found)]
    if not len(found):
        return None
    low, high = padded(found)
    counts, edges = np.histogram(found, bins=min(40, max(5, round(len(found) ** 0.5))))
    scale = 100 / (high - low)
    bars = [
        (float((a - low) * scale), float((b - a) * scale), float(100 * n / counts.max()))
        for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)
        if n
    ]
    ticks = [Tick(float((t - low) * scale), f"{t:g}") for t in nice_ticks(low, high)]
    middle = float(np.median(found))
    alt = (
        f"Histogram of {x_label} for {len(found)} examples, from {found.min():.4g} to "
        f"{found.max():.4g} with the median at {middle:.4g}."
    )
    return Histogram(caption, alt, bars, ticks, x_label, int(counts.max()))


def _plain(value: float) -> str:
    """Return three digits of a number, without an exponent where it is not far from 1."""
    return f"{float(f'{value:.3g}'):,.10g}" if 1e-3 < value < 1e6 else f"{value:.2g}"
