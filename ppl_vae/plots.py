"""Pictures: arrays and Axes in, Axes out.

Nothing here knows torch or a pair, so every function serves any model's numbers. Colours are
distinguishable in print and by the colour-blind (Okabe and Ito 2008).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#7F7F7F"
COLOURS = (BLUE, ORANGE, GREEN, RED, "#CC79A7", "#56B4E9", "#F0E442", "#000000")
DPI = 110


def subplots(
    rows: int = 1, columns: int = 1, *, size: tuple[float, float] = (5.2, 3.6)
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
    """Write the figure that `ax` belongs to as a PNG."""
    figure = ax.get_figure(root=True)
    if figure is not None:
        figure.savefig(path, dpi=DPI)


def tile(images: ArrayLike, columns: int) -> NDArray[Any]:
    """Return images, (count, channels, height, width), side by side: (height, width[, 3])."""
    images = np.asarray(images)
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    sheet = np.zeros((rows * columns, channels, height, width), dtype=images.dtype)
    sheet[:count] = images
    sheet = sheet.reshape(rows, columns, channels, height, width)
    sheet = sheet.transpose(0, 3, 1, 4, 2).reshape(rows * height, columns * width, channels)
    return sheet if channels == 3 else sheet[..., 0]


def image_grid(
    images: ArrayLike, ax: Axes | None = None, *, columns: int = 8, title: str = ""
) -> Axes:
    """Draw images in rows.

    Args:
        images: (count, channels, height, width), from 0 (black) to 1 (white).
        ax: where; a new figure if None.
        columns: images in a row.
        title: above the picture.
    """
    sheet = tile(images, columns)
    ax = _axes(ax, (4.8, 0.3 + 4.8 * sheet.shape[0] / sheet.shape[1]))
    ax.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_axis_off()
    ax.set_title(title)
    return ax


def reconstructions(
    inputs: ArrayLike, outputs: ArrayLike, ax: Axes | None = None, *, title: str = ""
) -> Axes:
    """Draw images above their reconstructions, both (count, channels, height, width)."""
    inputs, outputs = np.asarray(inputs), np.asarray(outputs)
    half = -(-len(inputs) // 2) if len(inputs) > 8 else len(inputs)
    rows = []
    for start in range(0, len(inputs), half):
        rows += [inputs[start : start + half], outputs[start : start + half]]
    return image_grid(np.concatenate(rows), ax, columns=half, title=title)


def elbo_history(
    curves: Mapping[str, Sequence[float]],
    ax: Axes | None = None,
    *,
    first_epoch: int = 1,
    title: str = "",
) -> Axes:
    """Draw the ELBO per example, in nats, by epoch.

    Args:
        curves: a line each; names that differ only by a final "train" or "test" share a colour,
            and "test" is dashed.
        ax: where; a new figure if None.
        first_epoch: of the first value.
        title: above the picture.
    """
    ax = _axes(ax)
    colours: dict[str, str] = {}
    for name, values in curves.items():
        run = name.removesuffix("train").removesuffix("test")
        colour = colours.setdefault(run, COLOURS[len(colours) % len(COLOURS)])
        epochs = np.arange(first_epoch, first_epoch + len(values))
        style = "--" if name.endswith("test") else "-"
        ax.plot(epochs, values, style, color=colour, label=name)
    ax.set(xlabel="epoch", ylabel="ELBO per example (nats)", title=title)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False)
    return ax


def latent_scatter(
    codes: ArrayLike, labels: ArrayLike, ax: Axes | None = None, *, title: str = ""
) -> Axes:
    """Draw two-dimensional codes, (count, 2), coloured by label, the legend outside."""
    ax = _axes(ax, (5.6, 4.4))
    codes, labels = np.asarray(codes), np.asarray(labels)
    for number, label in enumerate(np.unique(labels)):
        chosen = codes[labels == label]
        ax.scatter(*chosen.T, s=3, color=f"C{number % 10}", label=str(label), rasterized=True)
    ax.set(xlabel="z, first dimension", ylabel="z, second dimension", title=title)
    ax.set_aspect("equal", adjustable="datalim")
    ax.legend(frameon=False, markerscale=4, loc="upper left", bbox_to_anchor=(1.01, 1))
    return ax


def latent_walk(
    decode: Callable[[NDArray[Any]], ArrayLike],
    ax: Axes | None = None,
    *,
    extent: float = 4.0,
    steps: int = 20,
    title: str = "",
) -> Axes:
    """Draw what a grid of two-dimensional codes decodes to.

    Args:
        decode: codes, (count, 2), to images, (count, channels, height, width).
        ax: where; a new figure if None.
        extent: the grid covers [-extent, extent] in both dimensions; the second one points up.
        steps: codes a side.
        title: above the picture.
    """
    line = np.linspace(-extent, extent, steps)
    first, second = np.meshgrid(line, line[::-1])
    images = decode(np.stack([first.ravel(), second.ravel()], axis=-1))
    ax = _axes(ax, (4.2, 4.2))
    ax.imshow(
        tile(images, steps),
        cmap="gray",
        vmin=0,
        vmax=1,
        extent=(-extent, extent, -extent, extent),
        aspect=1,
    )
    ax.set(xlabel="z, first dimension", ylabel="z, second dimension", title=title)
    return ax


def posterior_against_guide(
    z: ArrayLike, densities: Mapping[str, ArrayLike], ax: Axes | None = None, *, title: str = ""
) -> Axes:
    """Draw densities over a one-dimensional latent; the first is filled."""
    ax = _axes(ax)
    for number, (name, density) in enumerate(densities.items()):
        if number == 0:
            ax.fill_between(z, density, color=GREY, alpha=0.35, label=name, linewidth=0)
        else:
            ax.plot(z, density, color=COLOURS[number - 1], label=name)
    ax.set(xlabel="z", ylabel="density", title=title, ylim=(0, None))
    ax.legend(frameon=False)
    return ax


def gradient_variance_bars(
    variances: Mapping[str, Mapping[str, float]],
    errors: Mapping[str, Mapping[str, float]],
    ax: Axes | None = None,
    *,
    exact: Mapping[str, Mapping[str, float]] | None = None,
    title: str = "",
) -> Axes:
    """Draw gradient variances by parameter group, a bar per estimator, with standard errors.

    Args:
        variances: estimator to group to variance, above 0.
        errors: the standard errors, likewise.
        ax: where; a new figure if None.
        exact: closed forms, where there are some; drawn as lines across the bars.
        title: above the picture.
    """
    ax = _axes(ax, (7.2, 3.6))
    groups = list(dict.fromkeys(group for row in variances.values() for group in row))
    width = 0.8 / max(len(variances), 1)
    for number, (name, row) in enumerate(variances.items()):
        at = np.arange(len(groups)) + (number - (len(variances) - 1) / 2) * width
        heights = [row.get(group, np.nan) for group in groups]
        bars = [errors[name].get(group, 0.0) for group in groups]
        colour = COLOURS[number % len(COLOURS)]
        hatch = "///" if number >= len(COLOURS) else None
        style = {"color": colour, "hatch": hatch, "edgecolor": "white"}
        ax.bar(at, heights, 0.9 * width, yerr=bars, capsize=2, label=name, **style)
        for x, group in zip(at, groups, strict=True):
            if exact and group in exact.get(name, {}):
                ax.hlines(exact[name][group], x - width / 2, x + width / 2, color="black")
    if exact and any(exact.values()):
        ax.hlines([], 0, 0, color="black", label="closed form")
    ax.set_xticks(range(len(groups)), groups)
    ax.set(ylabel="gradient variance", title=title)
    positive = [v for row in variances.values() for v in row.values() if v > 0]
    if positive and max(positive) > 30 * min(positive):
        ax.set_yscale("log")
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1))
    return ax


def _axes(ax: Axes | None, size: tuple[float, float] = (5.2, 3.6)) -> Axes:
    return subplots(size=size)[1][0, 0] if ax is None else ax
