"""Figures, colours, and where a picture goes.

Colours are distinguishable in print and by the colour-blind (Okabe and Ito 2008).
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#7F7F7F"
COLOURS = (BLUE, ORANGE, GREEN, RED, "#CC79A7", "#56B4E9", "#F0E442", "#000000")
DPI = 110
SIZE = (5.2, 3.6)
LEGEND_ROW = 0.21


def subplots(
    rows: int = 1, columns: int = 1, *, size: tuple[float, float] = SIZE
) -> tuple[Figure, NDArray[Any]]:
    """Return a figure that no window manager holds, and its Axes, (rows, columns).

    Args:
        rows: of Axes.
        columns: of Axes.
        size: width and height of one, in inches.
    """
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, np.asarray(figure.subplots(rows, columns, squeeze=False))


def save(ax: Axes, path: str | Path) -> None:
    """Write the figure that `ax` belongs to as a PNG, of one channel if all of it is grey."""
    figure = ax.get_figure(root=True)
    if figure is None:
        return
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=DPI)
    picture = Image.open(written).convert("RGB")
    red, green, blue = picture.split()
    if red == green == blue:
        picture = red
    picture.save(path, format="png", optimize=True)


def given_or_new(ax: Axes | None, size: tuple[float, float] = SIZE) -> Axes:
    """Return `ax`, or the Axes of a new figure of `size` inches if it is None."""
    return subplots(size=size)[1][0, 0] if ax is None else ax


def legend_outside(ax: Axes, *, markerscale: float = 1.0) -> None:
    """Put the legend to the right of the Axes; a constrained layout makes room for it.

    It has as many columns as it takes not to be taller than the Axes.
    """
    height = ax.get_position().height * ax.figure.bbox.height / ax.figure.dpi
    entries = len(ax.get_legend_handles_labels()[0])
    ax.legend(
        frameon=False,
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
        borderaxespad=0.0,
        ncols=max(1, -(-entries // max(1, int(height / LEGEND_ROW)))),
        markerscale=markerscale,
    )
